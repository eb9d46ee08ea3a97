"""One of two replicas ended by SIGKILL under load, again and again, each time when two are ready."""

import random
import time
from pathlib import Path

from benchmarks.harness import Figures
from benchmarks.serving_answers import loading
from benchmarks.serving_site import running
from benchmarks.serving_speed import WARM_UP, Pace

KILLS = 6
PER_S = 100.0
REPLICAS = 2
LIVE_S = (2.0, 6.0)
"""So long both go on between a recovery and the next kill, at random."""


def kills(home: Path, pace: Pace) -> Figures:
    """Kill, wait until two are ready again, and again."""
    rng = random.Random(0)
    with running(home, replicas=REPLICAS) as found:
        found.await_replicas(REPLICAS)
        found.warm_up(WARM_UP)
        with loading(found.plan(per_s=PER_S)) as load:
            again_s = []
            for _ in range(pace.count(KILLS, least=1)):
                time.sleep(rng.uniform(*LIVE_S))
                victim = rng.choice(found.replicas())
                victim.kill()
                again_s.append(found.await_replicas(REPLICAS, besides=frozenset({victim.pid})))
            time.sleep(LIVE_S[0])
            got = load.finish()
    return {
        "kills": len(again_s),
        "kill_failed": got.failed,
        "kill_refused": got.refused,
        "kill_requests": len(got.status),
        "ready_again_s": max(again_s),
        "kill_p99_ms": got.percentile_ms(99),
        "kill_mixed": got.mixed,
        "kill_no_answer": got.statuses().get(0, 0),
    }
