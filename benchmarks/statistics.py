"""Whether the figures of experiments can be trusted: simulations of what the read-outs claim, with the truth known.

coverage_normal, coverage_bernoulli, coverage_ratio: share of 20,000 experiments (2,000 units per arm) whose 95%
interval holds the truth; standard normal values, a share of .04, clicks per list where people see 1 to 9 lists.
coverage_revenue: 9,000 / 1,000 units, 4% of them buy for log-normal sums (sigma 1); welch is the plain interval
beside it, warned the share of read-outs that warn; the same with sigma 2.
fpr_sequential, fpr_naive: looks after every 100 units up to 4,000, no difference, normal and Bernoulli .1 (the worse
of both). power: the fixed test at the planned size and effect; power_sequential the always-valid one by twice that
size. stop_ratio: median units at which the always-valid test stops, at 1.6 times the planned effect, against the fixed
size.
cuped_error: how far the variance ratio is from 1 - rho^2, relative, the worst of rho .3, .5, .7, .9; 200,000 units.
srm_false: share of 20,000 fair experiments (50 / 50, 80 / 20, three arms) that ever alarm under 336 hourly looks up to
50,000 units; srm_found: share of 51.3 / 48.7 that alarm by then.
gbstats_max_error: largest relative distance from vectors frozen with gbstats 0.8.0.
ope_coverage, ope_width_ratio: 200 logs of 2,000 people in a simulator with known rewards; the interval of the doubly
robust estimate from logged propensities, against inverse propensities with those the simulator really used.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Figures, main
from benchmarks.statistics_policies import off_policy
from benchmarks.statistics_vectors import largest_error
from bespoke.statistics.arm import Arm, Values, adjusted, ratio_contributions
from bespoke.statistics.difference import difference, too_skewed
from bespoke.statistics.planning import units_needed
from bespoke.statistics.sample_ratio import mismatches
from bespoke.statistics.sequence import MIN_UNITS, sequence

REPEATS = 20_000
PER_ARM = 2_000
LOOK_EVERY, LAST_LOOK = 100, 4_000
LOOKS_REPEATS = 4_000
HOURS, SRM_UNITS = 336, 50_000


def covered(pairs: Iterator[tuple[Arm, Arm]], truth: float, *, by_skew: bool = True) -> float:
    """Return the share of pairs whose interval holds ``truth``."""
    found = [difference(one, other, by_skew=by_skew) for one, other in pairs]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def normal(random: np.random.Generator) -> Iterator[tuple[Arm, Arm]]:
    """Yield arms of standard normal values, a tenth apart."""
    for _ in range(REPEATS):
        yield Arm.of(random.normal(0, 1, PER_ARM)), Arm.of(random.normal(0.1, 1, PER_ARM))


def bernoulli(random: np.random.Generator) -> Iterator[tuple[Arm, Arm]]:
    """Yield arms of shares of .04 and .044."""
    counts = random.binomial(PER_ARM, [[0.04, 0.044]], (REPEATS, 2))
    return ((Arm.of_share(int(a), PER_ARM), Arm.of_share(int(b), PER_ARM)) for a, b in counts)


def ratios(random: np.random.Generator) -> Iterator[tuple[Arm, Arm]]:
    """Yield arms of clicks per list; who sees more lists clicks on fewer of them."""

    def arm(lift: float) -> Arm:
        lists = random.integers(1, 10, PER_ARM)
        clicks = random.binomial(lists, lift * (0.3 - 0.02 * lists))
        return Arm.of(ratio_contributions(clicks, lists))

    for _ in range(REPEATS):
        yield arm(1.0), arm(1.1)


def ratio_truth() -> float:
    """Return the true difference of :func:`ratios`."""
    lists = np.arange(1, 10)
    rate = float((lists * (0.3 - 0.02 * lists)).sum() / lists.sum())
    return 0.1 * rate


def revenue(random: np.random.Generator, *, sigma: float, repeats: int) -> Figures:
    """Return coverage of 9,000 against 1,000 units of which 4% buy."""

    def arm(units: int) -> Arm:
        buys = random.random(units) < 0.04
        spent = np.zeros(units)
        spent[buys] = random.lognormal(0, sigma, int(buys.sum()))
        return Arm.of(spent)

    pairs = [(arm(9_000), arm(1_000)) for _ in range(repeats)]
    return {
        "coverage": covered(iter(pairs), 0.0),
        "welch": covered(iter(pairs), 0.0, by_skew=False),
        "warned": float(np.mean([too_skewed(*pair) for pair in pairs])),
    }


def moments(values: Values, sizes: npt.NDArray[np.int64]) -> list[Arm]:
    """Return the arms of the first so many values."""
    one, two, three = (np.cumsum(values**power)[sizes - 1] for power in (1, 2, 3))
    mean = one / sizes
    variance = (two - sizes * mean**2) / (sizes - 1)
    third = three / sizes - 3 * mean * two / sizes + 2 * mean**3
    return [Arm(int(n), float(m), float(v), float(t)) for n, m, v, t in zip(sizes, mean, variance, third, strict=True)]


def looks(control: Values, treatment: Values, *, every: int, planned: int) -> Iterator[tuple[int, float, float]]:
    """Yield the units, the p-value of a fixed test and of the always-valid one at each look."""
    sizes = np.arange(every // 2, len(control) + 1, every // 2)
    for one, other in zip(moments(control, sizes), moments(treatment, sizes), strict=True):
        units = one.units + other.units
        found = difference(one, other)
        ready = min(one.units, other.units) >= MIN_UNITS
        yield units, found.p_value, sequence(found, units=units, planned=planned).p_value if ready else 1.0


def false_alarms(random: np.random.Generator) -> Figures:
    """Return shares of experiments without a difference in which some look finds one."""
    worst = {"fpr_sequential": 0.0, "fpr_naive": 0.0}

    def normals(n: int) -> Values:
        return random.normal(0, 1, n)

    def bernoullis(n: int) -> Values:
        return (random.random(n) < 0.1).astype(np.float64)

    for draw in (normals, bernoullis):
        every = [
            np.array(
                [p for _, *p in looks(draw(LAST_LOOK // 2), draw(LAST_LOOK // 2), every=LOOK_EVERY, planned=LAST_LOOK)]
            )
            for _ in range(LOOKS_REPEATS // 2)
        ]
        naive, valid = np.mean([(p < 0.05).any(axis=0) for p in every], axis=0)
        worst = {"fpr_sequential": max(worst["fpr_sequential"], valid), "fpr_naive": max(worst["fpr_naive"], naive)}
    return worst


def power(random: np.random.Generator) -> Figures:
    """Return how often planned effects are found, and how early larger ones."""
    effect = 0.1
    planned = units_needed(variance=1.0, effect=effect)
    half = planned // 2
    fixed = [
        difference(Arm.of(random.normal(0, 1, half)), Arm.of(random.normal(effect, 1, half))).p_value < 0.05
        for _ in range(LOOKS_REPEATS)
    ]
    stops: dict[float, list[float]] = {1.0: [], 1.6: []}
    for lift, found in stops.items():
        for _ in range(LOOKS_REPEATS // 4):
            control, treatment = random.normal(0, 1, planned), random.normal(lift * effect, 1, planned)
            every = looks(control, treatment, every=LOOK_EVERY, planned=planned)
            found.append(next((units for units, _, p in every if p < 0.05), np.inf))
    return {
        "power": float(np.mean(fixed)),
        "power_sequential": float(np.mean(np.array(stops[1.0]) <= 2 * planned)),
        "stop_ratio": float(np.median(stops[1.6])) / planned,
    }


def cuped(random: np.random.Generator) -> float:
    """Return how far the variance that is left is from what theory leaves."""
    errors, units = [], 200_000
    for rho in (0.3, 0.5, 0.7, 0.9):
        before = random.normal(0, 1, units)
        after = rho * before + np.sqrt(1 - rho**2) * random.normal(0, 1, units)
        (left,) = adjusted([after], [before])
        errors.append(abs(left.var(ddof=1) / after.var(ddof=1) / (1 - rho**2) - 1))
    return float(max(errors))


def alarms(random: np.random.Generator, drawn: Values, shares: Values, *, repeats: int) -> float:
    """Return the share of experiments that alarm at some hourly look while units arrive by ``drawn``."""
    ends = np.linspace(0, SRM_UNITS, HOURS + 1).astype(int)
    hourly = [b - a for a, b in pairwise(ends)]
    found = 0
    for _ in range(repeats):
        counts = np.cumsum(random.multinomial(hourly, drawn), axis=0).astype(float)
        found += bool(mismatches(counts, shares, planned=SRM_UNITS).any())
    return found / repeats


def sample_ratios(random: np.random.Generator) -> Figures:
    """Return false and true alarms of the sample-ratio check."""
    splits = ([0.5, 0.5], [0.8, 0.2], [0.4, 0.3, 0.3])
    false = [alarms(random, np.array(split), np.array(split), repeats=REPEATS // 3) for split in splits]
    found = alarms(random, np.array([0.513, 0.487]), np.array([0.5, 0.5]), repeats=2_000)
    return {"srm_false": float(np.mean(false)), "srm_found": found}


def run(seed: int) -> Figures:
    """Simulate once."""
    random = np.random.default_rng(seed)
    usual = revenue(random, sigma=1.0, repeats=REPEATS)
    wild = revenue(random, sigma=2.0, repeats=2_000)
    return {
        "coverage_normal": covered(normal(random), 0.1),
        "coverage_bernoulli": covered(bernoulli(random), 0.004),
        "coverage_ratio": covered(ratios(random), ratio_truth()),
        "coverage_revenue": usual["coverage"],
        "coverage_revenue_welch": usual["welch"],
        "warned_sigma1": usual["warned"],
        "warned_sigma2": wild["warned"],
        "coverage_sigma2": wild["coverage"],
        **false_alarms(random),
        **power(random),
        "cuped_error": cuped(random),
        **sample_ratios(random),
        "gbstats_max_error": largest_error(),
        **off_policy(random),
    }


if __name__ == "__main__":
    seeds = iter(range(1, 1_000))
    main("statistics", lambda: run(next(seeds)), about=(__doc__ or "").strip())
