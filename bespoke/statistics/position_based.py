"""Off-policy estimates for lists: an item that was shown at one place says what it would bring at another.

Exploration puts items from below a list into it, and leaves those of the list where they are. So most of what another
version would show at a place was shown, but elsewhere. How much less is looked at further down is read off the drawn
items, which come to every place alike; with that, rewards are carried over from place to place.
Source: Li, Abbasi-Yadkori, Kveton, Muthukrishnan, Vinay and Wen 2018, "Offline Evaluation of Ranking Policies with
Click Models" (the position-based model).

S slots, P places.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from bespoke.statistics.arm import Values
from bespoke.statistics.off_policy import Estimated, Slots, inverse_propensity

RESAMPLES = 200
FEW_DRAWN = 50
"""Rewards of drawn slots below which places are taken to be alike."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Logged slots of whole lists, as columns."""

    unit_S: npt.NDArray[np.int64]
    """The person or answer, numbered from 0."""
    place_S: npt.NDArray[np.int64]
    """From 0 on."""
    reward_S: Values
    shown_S: Values
    """Probability that the version in force shows the item, at whatever place."""
    drawn_S: npt.NDArray[np.bool_]
    """Whether exploration put it there."""
    target_SP: Values
    """Probability that the other version puts the item at each place, or 1 and 0 for a list drawn from it."""


def position_based(lists: Lists, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Estimated:
    """Return the other version's mean reward per slot.

    The interval is that of a bootstrap over units in which the places' weights are estimated anew each time.

    Args:
        lists: what was shown, and what the other version would have shown.
        confidence: coverage of the interval, 0..1.
        resamples: how often units are drawn anew.
        seed: equal seeds give equal intervals.
    """
    random, units = np.random.default_rng(seed), int(lists.unit_S.max()) + 1
    value = _value(lists, np.ones(len(lists.unit_S)))
    drawn = (random.poisson(1.0, units).astype(np.float64) for _ in range(resamples))
    # Around the estimate with the spread of the resamples: percentiles of few resamples would be rough.
    spread = float(np.std([_value(lists, weight_U[lists.unit_S]) for weight_U in drawn], ddof=1))
    margin = float(stats.norm.isf((1 - confidence) / 2)) * spread
    plain = inverse_propensity(with_places(lists, looked_at(lists)))
    return Estimated("position", value, value - margin, value + margin, plain.effective_slots, plain.warnings)


def looked_at(lists: Lists, weight_S: Values | None = None) -> Values:
    """Return how much places are looked at, [P], the first as 1: rewards of drawn slots by place."""
    drawn, places = lists.drawn_S, lists.target_SP.shape[1]
    weight = (np.ones(len(drawn)) if weight_S is None else weight_S)[drawn]
    count_P = np.bincount(lists.place_S[drawn], weight, places)
    reward_P = np.bincount(lists.place_S[drawn], weight * lists.reward_S[drawn], places)
    if reward_P.sum() < FEW_DRAWN or reward_P[0] == 0 or not count_P.all():
        return np.ones(places)
    looked: Values = np.maximum(reward_P / count_P, 1e-9)
    looked /= looked[0]
    return looked


def with_places(lists: Lists, looked_P: Values) -> Slots:
    """Return slots whose target is what the other version's places make of the item, against the place it had."""
    target_S = lists.target_SP @ looked_P / looked_P[lists.place_S]
    return Slots(lists.unit_S, lists.reward_S, lists.shown_S, target_S)


def _value(lists: Lists, weight_S: Values) -> float:
    """Return the estimate with slots counted so often."""
    slots = with_places(lists, looked_at(lists, weight_S))
    return float((weight_S * slots.target / slots.logged) @ slots.reward / weight_S.sum())
