"""Differences that may be looked at every day: confidence sequences, which hold at all looks together."""

import math
from dataclasses import dataclass

from bespoke.statistics.difference import Difference

TUNED_SHARE = 0.5
"""Intervals are narrowest at this share of the planned units: large effects are to be seen well before the end."""
MIN_UNITS = 100
"""In either arm, before anything is said: limits for large numbers are no good for few."""


@dataclass(frozen=True, slots=True)
class AnytimeInterval:
    """One look at a difference, out of any number of looks."""

    low: float
    high: float
    p_value: float
    """The chance of such evidence at any look, were there no difference; it may only be read as the smallest yet."""


def sequence(found: Difference, *, units: int, planned: int, confidence: float = 0.95) -> AnytimeInterval:
    """Return the interval of a difference that may be looked at whenever one likes, and acted upon at once.

    The asymptotic confidence sequence of Robbins' normal mixture, tuned to be narrowest at :data:`TUNED_SHARE` of the
    planned units.
    Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024, "Time-uniform central limit theory and asymptotic
    confidence sequences", equations 9 (interval), 155 (p-value) and 161 (tuning) of arXiv:2103.06476v7.

    Args:
        found: the difference now.
        units: in both arms together, now.
        planned: units in both arms together at which it was meant to end.
        confidence: share of experiments whose sequence holds the truth at every look, 0..1.
    """
    alpha, total = 1 - confidence, float(units)
    rho_squared = tuning(planned * TUNED_SHARE, alpha=alpha)
    variance, mixed = found.error**2 * total, total * rho_squared + 1
    width = math.sqrt(variance * 2 * mixed * math.log(math.sqrt(mixed) / alpha) / (total**2 * rho_squared))
    log_evidence = rho_squared * (found.estimate**2 * total / found.error**2) / (2 * mixed) - math.log(mixed) / 2
    return AnytimeInterval(found.estimate - width, found.estimate + width, math.exp(min(-log_evidence, 0.0)))


def tuning(units: float, *, alpha: float) -> float:
    """Return the square of the mixture's parameter that makes intervals narrowest at so many units."""
    twice = -2 * math.log(alpha)
    return (twice + math.log(twice + 1)) / max(units, 1.0)
