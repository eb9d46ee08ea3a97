"""Five times the load that can be answered: what is refused, how fast what is accepted stays, how soon all is well."""

import time
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures
from benchmarks.serving_answers import Answers, answers, loading
from benchmarks.serving_load import FAILED
from benchmarks.serving_site import Running, running
from benchmarks.serving_speed import CLIENTS, WARM_UP, Pace

TIMES = 5.0
OVERLOAD_S = 60.0
CAPACITY_S = 10.0
NORMAL_SHARE = 0.5
"""Of capacity: the load before and after."""
AFTER_S = 10.0
OBJECTIVE_MS = 40.0
WINDOW_S = 1.0


def overload(home: Path, pace: Pace) -> Figures:
    """Measure capacity, offer five times as much, and go on at half of it."""
    with running(home, replicas=pace.replicas) as found:
        found.warm_up(WARM_UP)
        capacity = answers(found.plan(clients=CLIENTS, duration_s=max(pace.seconds(CAPACITY_S), 3.0))).per_s
        before, during, after = _phases(found, capacity, pace)
    accepted, status = during.accepted, during.statuses()
    return {
        "capacity_per_s": capacity,
        "offered_per_s": len(during.status) / (during.due_s.max() - during.due_s.min()),
        "accepted_per_s": during.per_s,
        "accepted_share": float(accepted.mean()),
        "refused": during.refused,
        "other_statuses": int((~accepted).sum()) - during.refused,
        "no_answer": status.get(FAILED, 0),
        "without_retry_after": during.without_retry_after,
        "accepted_p50_ms": during.percentile_ms(50),
        "accepted_p99_ms": during.percentile_ms(99),
        "overload_bad": during.bad,
        "before_p99_ms": before.percentile_ms(99),
        "recovery_s": recovery_s(after, since_s=float(during.due_s.max())),
    }


def _phases(found: Running, capacity: float, pace: Pace) -> tuple[Answers, Answers, Answers]:
    """Return what came of the loads before, during and after; the last one begins where the second ends."""
    normal, seconds = NORMAL_SHARE * capacity, max(pace.seconds(OVERLOAD_S), 5.0)
    before = answers(found.plan(per_s=normal, duration_s=5.0))
    with loading(found.plan(per_s=TIMES * capacity, duration_s=seconds)) as load:
        # A generator needs a moment to start: the next one is there, and quiet, when this one ends.
        time.sleep(seconds)
        with loading(found.plan(per_s=normal, duration_s=AFTER_S, seed=1)) as next_load:
            return before, load.finish(), next_load.finish()


def recovery_s(after: Answers, *, since_s: float) -> float:
    """Return the seconds from ``since_s`` until p99 of every window of a second stays within the objective."""
    starts = np.arange(after.due_s.min(), after.due_s.max() - WINDOW_S / 2, WINDOW_S)
    good = [_is_good(after, start) for start in starts]
    last_bad = max((place for place, one in enumerate(good) if not one), default=-1)
    if last_bad == len(good) - 1:
        return float("inf")
    return max(float(starts[last_bad + 1]) - since_s, 0.0)


def _is_good(after: Answers, start_s: float) -> bool:
    within = (after.due_s >= start_s) & (after.due_s < start_s + WINDOW_S)
    fast = after.percentile_ms(99, since_s=start_s, until_s=start_s + WINDOW_S) <= OBJECTIVE_MS
    return bool(fast and after.accepted[within].all())
