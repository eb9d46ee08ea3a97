"""Whether what acts by itself acts on the right versions.

false_rollbacks: of 200 experiments between equal versions, those in which any of four looks a day, for 14 days, says
that the new one is worse, by the metrics that config/metrics.toml ships.
rollback_quality_found: share of 50 experiments in which a version whose lists are clicked and bought from 20% less is
found worse within those days; rollback_quality_days: the median day.

People click by what is shown: each list has an appeal drawn for its version, each place is looked at less than the one
above; who clicks may buy, what they spend is log-normal. 20,000 people come over the 14 days, half to each version.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures, main
from bespoke.statistics.arm import Values
from bespoke.statistics.declared import DeclaredMetric, load_metrics
from bespoke.statistics.readout import Column, Plan, Units, read_out
from monitoring.measures import SURE

EQUAL, WORSE = 200, 50
DAYS, PEOPLE, EVERY_H = 14, 20_000, 6
LISTS, PLACES = 4, 5
HARM = {"worse", "harmful"}
METRICS = Path(__file__).parent.parent / "config" / "metrics.toml"


def experiment(random: np.random.Generator, *, appeal: float) -> tuple[Values, Units]:
    """Return when each person came, in days, and everything they did; the second version's lists have this appeal."""
    arrived_U = np.sort(random.uniform(0, DAYS, PEOPLE))
    variant_U = random.integers(2, size=PEOPLE)
    lists_U = random.integers(1, 2 * LISTS, PEOPLE)
    rate_U = random.beta(1, 9, PEOPLE) * np.where(variant_U == 1, appeal, 1.0)
    seen = (0.85 ** np.arange(PLACES)).sum()
    clicks_U = random.binomial(lists_U * PLACES, np.minimum(rate_U * seen / PLACES, 1.0))
    orders_U = random.binomial(clicks_U, 0.15) + random.poisson(0.05, PEOPLE)
    spent_U = np.array([random.lognormal(3, 1, n).sum() if n else 0.0 for n in orders_U])
    did = {
        "conversion": orders_U.astype(np.float64),
        "revenue_per_person": spent_U,
        "orders_per_person": orders_U.astype(np.float64),
        "click_through": clicks_U.astype(np.float64),
    }
    columns = tuple(
        Column(metric, did[metric.name], lists_U.astype(np.float64) if metric.kind == "ratio" else None)
        for metric in metrics()
    )
    return arrived_U, Units(("old", "new"), variant_U, columns)


def metrics() -> list[DeclaredMetric]:
    """Return the metrics that are shipped."""
    return list(load_metrics(METRICS.read_text()).values())


def found_after(random: np.random.Generator, *, appeal: float) -> float | None:
    """Return after how many days a look finds the new version worse; None: never."""
    arrived_U, units = experiment(random, appeal=appeal)
    for hour in range(EVERY_H, DAYS * 24 + 1, EVERY_H):
        if any(_harms(units.where(arrived_U < hour / 24))):
            return hour / 24
    return None


def _harms(units: Units) -> Iterator[bool]:
    for metric in read_out(units, Plan((0.5, 0.5), PEOPLE, SURE)).metrics:
        yield from (one.verdict.outcome in HARM for one in metric.comparisons)


def run(seed: int) -> Figures:
    """Measure once."""
    random = np.random.default_rng(seed)
    equal = [found_after(random, appeal=1.0) for _ in range(EQUAL)]
    worse = [found_after(random, appeal=0.8) for _ in range(WORSE)]
    days = [day for day in worse if day is not None]
    return {
        "false_rollbacks": float(sum(day is not None for day in equal)),
        "rollback_quality_found": len(days) / WORSE,
        "rollback_quality_days": float(np.median(days)) if days else float("inf"),
    }


if __name__ == "__main__":
    seeds = iter(range(1, 1_000))
    main("actions", lambda: run(next(seeds)), about=(__doc__ or "").strip())
