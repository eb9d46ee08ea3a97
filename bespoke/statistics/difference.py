"""Two arms held against each other once, at a size that was fixed beforehand: difference, interval, p-value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bespoke.statistics.arm import Arm

SKEW_LIMIT = 0.75
"""Lopsidedness of all units over the root of the smaller arm's units from which intervals are not to be trusted."""


class Undefined(ValueError):
    """Nothing can be said: too few units, no spread, or nothing to be relative to."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the treatment is from the control."""

    estimate: float
    """Treatment minus control; as a share of the control's value where ``relative``."""
    error: float
    """Standard error."""
    low: float
    high: float
    p_value: float
    """Two-sided."""
    degrees: float
    """Of freedom."""
    skew: float
    """Of the difference, in standard errors; what the interval is bent by."""
    relative: bool


def difference(
    control: Arm,
    treatment: Arm,
    *,
    relative: bool = False,
    confidence: float = 0.95,
    by_skew: bool = True,
) -> Difference:
    """Return treatment minus control with Welch's interval, bent where the metric is lopsided.

    Revenue, where a few of many buy, is so lopsided that with unequal arms Welch's interval misses far more often on
    one side. The interval is therefore that of Hall's transformation, with the lopsidedness of all units of both
    arms; with equal arms it is Welch's.
    Sources: Welch 1947; for relative differences the delta method; Hall 1992, "On the Removal of Skewness by
    Transformation".

    Args:
        control: what the treatment is held against.
        treatment: the other arm.
        relative: as a share of the control's value.
        confidence: coverage of the interval, 0..1.
        by_skew: False: Welch's interval as it is.

    Raises:
        Undefined: an arm has fewer than two units, neither varies, or the control's value is 0 and a share of it was
            asked for.
    """
    if min(control.units, treatment.units) < 2:
        raise Undefined("an arm has fewer than 2 units")
    estimate, control_part, treatment_part = _parts(control, treatment, relative=relative)
    variance = control_part + treatment_part
    if variance <= 0:
        raise Undefined("no unit differs from another")
    error, degrees = math.sqrt(variance), _degrees(control, treatment)
    skew = skew_of_difference(control, treatment) if by_skew else 0.0
    edge = float(stats.t.ppf(0.5 + confidence / 2, degrees))
    p_value = 2 * float(stats.t.sf(abs(_bent(estimate / error, skew)), degrees))
    low, high = (estimate - error * _straight(bound, skew) for bound in (edge, -edge))
    return Difference(estimate, error, low, high, p_value, degrees, skew, relative)


def _parts(control: Arm, treatment: Arm, *, relative: bool) -> tuple[float, float, float]:
    """Return the difference and what either arm adds to its variance."""
    gap = treatment.value - control.value
    if not relative:
        return gap, control.squared_error, treatment.squared_error
    base = control.relative_to
    if base == 0:
        raise Undefined("the control's value is 0: there is nothing to be relative to")
    control_part = control.squared_error * treatment.relative_to**2 / base**4
    return gap / base, control_part, treatment.squared_error / base**2


def _degrees(control: Arm, treatment: Arm) -> float:
    """Return the degrees of freedom by Welch and Satterthwaite."""
    one, other = control.squared_error, treatment.squared_error
    return float((one + other) ** 2 / (one**2 / (control.units - 1) + other**2 / (treatment.units - 1)))


def skew_of_difference(control: Arm, treatment: Arm) -> float:
    """Return the lopsidedness of the difference, as if units of both arms were alike in shape; 0 for equal arms.

    A small arm says next to nothing of its own tail, and taken by arms the estimate's own error would spoil the
    intervals of equal arms, where lopsidedness cancels out.
    """
    na, nb = control.units, treatment.units
    bend: float = (1 / nb**2 - 1 / na**2) / (1 / nb + 1 / na) ** 1.5
    return skewness(control, treatment) * bend


def skewness(*arms: Arm) -> float:
    """Return the standardised third moment of the units of all arms, each around its own mean."""
    units = sum(arm.units for arm in arms)
    third = sum(arm.third * arm.units for arm in arms) / units
    variance = sum(arm.variance * (arm.units - 1) for arm in arms) / (units - len(arms))
    return float(third / variance**1.5) if variance > 0 else 0.0


def too_skewed(control: Arm, treatment: Arm) -> bool:
    """Return whether units are so lopsided that so few of them give no interval to rely on.

    Where a single unit can make up a good part of an arm's spread, neither the mean nor its error is known yet.
    """
    fewest = min(control.units, treatment.units)
    return fewest < 2 or abs(skewness(control, treatment)) / math.sqrt(fewest) > SKEW_LIMIT


def _bent(t: float, skew: float) -> float:
    """Return a studentised difference with its lopsidedness taken out."""
    return t + skew / 3 * t**2 + skew**2 / 27 * t**3 + skew / 6


def _straight(bent: float, skew: float) -> float:
    """Return the inverse of :func:`_bent`, which grows all the way.

    >>> round(_straight(_bent(1.2, 0.4), 0.4), 12)
    1.2
    """
    if abs(skew) < 1e-9:
        return bent
    return 3 / skew * (float(np.cbrt(1 + skew * (bent - skew / 6))) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values that hold for all of them together: the chance of any false alarm stays below each.

    Source: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    order = np.argsort(p_values)
    corrected = np.empty(len(order))
    highest = 0.0
    for rank, n in enumerate(order):
        highest = max(highest, min((len(order) - rank) * p_values[n], 1.0))
        corrected[n] = highest
    return [float(p) for p in corrected]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p-values of which, below a limit, that share at most are false alarms on average.

    Source: Benjamini and Hochberg 1995.

    >>> benjamini_hochberg([0.01, 0.04])
    [0.02, 0.04]
    """
    return [float(p) for p in stats.false_discovery_control(p_values)] if len(p_values) else []
