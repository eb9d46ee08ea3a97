"""How many units an experiment needs, how long that takes, and what it can see."""

import math
from collections.abc import Sequence

from scipy import stats


def units_needed(
    *,
    variance: float,
    effect: float,
    shares: Sequence[float] = (0.5, 0.5),
    power: float = 0.8,
    confidence: float = 0.95,
    comparisons: int = 1,
) -> int:
    """Return the units of all arms at which a difference is found with ``power``.

    The two-sided z test between the first arm, the control, and the smallest of the others; both vary alike.
    Source: Kohavi, Tang and Xu 2020, "Trustworthy Online Controlled Experiments", chapter 17.

    Args:
        variance: of one unit's contribution to the metric.
        effect: the difference to be found, in the metric's units.
        shares: of all units, by arm, control first.
        power: chance of finding it, 0..1.
        confidence: of the test, 0..1.
        comparisons: how many are made together; alpha is shared among them (Bonferroni).

    Raises:
        ValueError: there is no effect, or an arm gets nobody.

    >>> units_needed(variance=1.0, effect=0.1)
    3140
    """
    if effect == 0:
        raise ValueError("the effect to be found is 0; no number of units finds that")
    spread = variance * _per_unit(shares)
    return math.ceil(spread * (_z(power, confidence, comparisons) / effect) ** 2)


def detectable_effect(
    *,
    variance: float,
    units: int,
    shares: Sequence[float] = (0.5, 0.5),
    power: float = 0.8,
    confidence: float = 0.95,
    comparisons: int = 1,
) -> float:
    """Return the difference that so many units of all arms find with ``power``; arguments as of :func:`units_needed`.

    >>> round(detectable_effect(variance=1.0, units=3140), 3)
    0.1
    """
    if units < 1:
        return math.inf
    return _z(power, confidence, comparisons) * math.sqrt(variance * _per_unit(shares) / units)


def _per_unit(shares: Sequence[float]) -> float:
    control, *others = (share / sum(shares) for share in shares)
    if not others or min(control, *others) <= 0:
        raise ValueError(f"got shares {list(shares)}, expected two arms or more that all get somebody")
    return 1 / control + 1 / min(others)


def _z(power: float, confidence: float, comparisons: int) -> float:
    tail = (1 - confidence) / 2 / comparisons
    return float(stats.norm.isf(tail) + stats.norm.ppf(power))
