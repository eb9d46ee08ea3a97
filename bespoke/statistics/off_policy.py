"""What another version would have brought, from what was shown and how likely it was to be shown.

A slot is one item at one position of one answer. With the probability that the version in force put that item there,
and the one with which the other version would have, rewards are weighed to what the other would have got.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from bespoke.statistics.arm import Values, checked

FEW = 100.0
"""Effective slots below which an estimate rests on too few of them."""
HEAVY_SHARE = 0.05
"""A single unit should not carry more of all weight."""
MAX_WEIGHT = 1_000.0


@dataclass(frozen=True, slots=True)
class Slots:
    """Logged slots, as columns of equal length."""

    unit: npt.NDArray[np.int64]
    """Number of the person or answer that slots belong to; slots of one unit may depend on one another."""
    reward: Values
    logged: Values
    """Probability that the version in force put the item at this position, above 0."""
    target: Values
    """Probability that the other version does, or 1 and 0 for whether a list drawn from it did."""
    foreseen: Values | None = None
    """What a model of rewards expects of the slot's item, for the doubly robust estimate."""
    foreseen_target: Values | None = None
    """What it expects of what the other version shows at the position."""

    def __post_init__(self) -> None:
        """Check columns.

        Raises:
            ValueError: a propensity or a length cannot be.
        """
        columns = [self.reward, self.logged, self.target]
        columns += [part for part in (self.foreseen, self.foreseen_target) if part is not None]
        if any(len(checked(part)) != len(self.unit) for part in columns) or not len(self.unit):
            raise ValueError("columns of slots need one equal, positive length")
        if not ((self.logged > 0) & (self.logged <= 1)).all():
            raise ValueError(
                "logged propensities lie above 0 and up to 1; leave out slots that were pinned or have none"
            )
        if not (self.target >= 0).all():
            raise ValueError("target propensities lie at 0 or above")


@dataclass(frozen=True, slots=True)
class Estimated:
    """The other version's mean reward per slot."""

    method: str
    value: float
    low: float
    high: float
    effective_slots: float
    """So many slots of equal weight would say as much (Kish 1965)."""
    warnings: tuple[str, ...] = ()

    @property
    def width(self) -> float:
        """Of the interval."""
        return self.high - self.low


def inverse_propensity(slots: Slots, *, confidence: float = 0.95) -> Estimated:
    """Return the estimate by inverse propensities: unbiased, and wide. Source: Horvitz and Thompson 1952."""
    weight = _weights(slots)
    return _estimated("ips", slots, weight * slots.reward, np.ones(len(weight)), weight, confidence)


def self_normalised(slots: Slots, *, confidence: float = 0.95) -> Estimated:
    """Return the estimate in which weights sum to one. Source: Swaminathan and Joachims 2015."""
    weight = _weights(slots)
    return _estimated("snips", slots, weight * slots.reward, weight, weight, confidence)


def doubly_robust(slots: Slots, *, confidence: float = 0.95) -> Estimated:
    """Return a model's expectation, corrected by what it missed. Source: Dudik, Langford and Li 2011.

    Raises:
        ValueError: no model's expectations are given.
    """
    if slots.foreseen is None or slots.foreseen_target is None:
        raise ValueError("the doubly robust estimate needs what a model of rewards expects")
    weight = _weights(slots)
    corrected = slots.foreseen_target + weight * (slots.reward - slots.foreseen)
    return _estimated("dr", slots, corrected, np.ones(len(weight)), weight, confidence)


def _weights(slots: Slots) -> Values:
    weights: Values = np.minimum(slots.target / slots.logged, MAX_WEIGHT)
    return weights


def _estimated(method: str, slots: Slots, top: Values, bottom: Values, weight: Values, confidence: float) -> Estimated:
    """Return ``sum(top) / sum(bottom)`` with an interval over units, by the delta method."""
    units, of_unit = np.unique(slots.unit, return_inverse=True)
    top_U, bottom_U = np.bincount(of_unit, top), np.bincount(of_unit, bottom)
    effective = float(weight.sum() ** 2 / (weight @ weight)) if weight.any() else 0.0
    warnings = _warnings(weight, of_unit, effective)
    if not bottom_U.sum() > 0 or len(units) < 2:
        return Estimated(method, math.nan, -math.inf, math.inf, effective, warnings)
    value, mean = float(top_U.sum() / bottom_U.sum()), float(bottom_U.mean())
    off_U = (top_U - value * bottom_U) / mean
    error = math.sqrt(float(off_U @ off_U) / (len(units) - 1) / len(units))
    # As many degrees of freedom as there are units that carry weight.
    carried_U = np.bincount(of_unit, weight)
    degrees = max(float(carried_U.sum() ** 2 / (carried_U @ carried_U)) - 1, 1.0) if carried_U.any() else 1.0
    margin = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * error
    return Estimated(method, value, value - margin, value + margin, effective, warnings)


def _warnings(weight: Values, of_unit: npt.NDArray[np.intp], effective: float) -> tuple[str, ...]:
    told = []
    if effective < FEW:
        told.append(
            f"it rests on {effective:.0f} effective slots, fewer than {FEW:.0f}: show the version to some people"
        )
    unit_weight = np.bincount(of_unit, weight)
    if weight.any() and unit_weight.max() > HEAVY_SHARE * weight.sum():
        told.append(f"one unit carries {unit_weight.max() / weight.sum():.0%} of all weight")
    mean, error = float(weight.mean()), float(weight.std() / math.sqrt(max(len(weight), 1)))
    if abs(mean - 1) > max(4 * error, 0.1):
        told.append(f"weights have the mean {mean:.2f}, expected 1: the version shows what was never shown before")
    return tuple(told)
