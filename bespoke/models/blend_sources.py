"""What a blend looks at: per person the own items with how often and when, per item its popularity and rebuy rate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Interactions
from bespoke.models.history import History, KnownLines

SOURCES = ("personal", "rebuy", "als", "popularity")
"""What the weighted sum adds up."""
BUCKETS = (1, 5, 20, 100)
"""Lines of history at which the next bucket of weights begins: 0, 1-4, 5-19, 20-99, 100 and more."""
FEATURES = ("mass", "recent_mass", "total", "days", "age_days", "rebuy", "als", "popularity", "lines")
"""What trees split on, per item of one person."""
NEVER_DAYS = 10_000.0
"""Age of what a person never did."""
PRIOR_PEOPLE = 5.0
"""An item's rebuy rate counts as many people of the average rate besides its own."""


@dataclass(frozen=True, slots=True)
class Own:
    """The H distinct known items of one history."""

    row_H: RowArray
    mass_H: FloatArray
    """Weight of the lines about each, halved with age."""
    recent_H: FloatArray
    """The same with the shorter half-life."""
    total_H: FloatArray
    """The same without ageing."""
    days_H: FloatArray
    """On how many days."""
    age_days_H: FloatArray
    """How long ago the last time was."""
    lines: int
    """How long the whole history is."""

    @property
    def bucket(self) -> int:
        """Which row of weights is for this amount of history."""
        return int(np.searchsorted(BUCKETS, self.lines, side="right"))


def own_items(history: History, known: KnownLines, *, half_life_days: float, recent_half_life_days: float) -> Own:
    """Return what the known lines of ``history`` say of each item."""

    def mass(half_life: float) -> FloatArray:
        return known.decayed(at_ms=history.at_ms, half_life_days=half_life)

    items, day_N = len(known.row_H), known.at_ms_N // DAY_MS
    # The day is below, so that dividing by the number of days gives the place back.
    day_N -= day_N.min(initial=0)
    days = int(day_N.max(initial=0)) + 1
    place_of_day = np.unique(known.place_N * days + day_N) // days
    last_ms_H = np.zeros(items, dtype=np.int64)
    np.maximum.at(last_ms_H, known.place_N, known.at_ms_N)
    return Own(
        row_H=known.row_H,
        mass_H=mass(half_life_days),
        recent_H=mass(recent_half_life_days),
        total_H=known.summed(known.weight_N),
        days_H=np.bincount(place_of_day, minlength=items).astype(np.float32),
        age_days_H=(np.maximum(history.at_ms - last_ms_H, 0) / DAY_MS).astype(np.float32),
        lines=len(history.recent),
    )


def rebuy_rates(interactions: Interactions) -> FloatArray:
    """Return the share [I] of an item's people who came back to it on another day, drawn towards the overall share.

    Source: Bhagat, Muralidharan, Lobzhanidze, Vishwanath 2018, "Buy It Again: Modeling Repeat Purchase
    Recommendations" (repeat customer probability).
    """
    items = len(interactions.items)
    pair_N = interactions.user_N.astype(np.int64) * items + interactions.item_N
    pair_of_day = np.unique(np.stack([pair_N, interactions.at_ms_N // DAY_MS]), axis=1)[0]
    pair_P, days_P = np.unique(pair_of_day, return_counts=True)
    people_I = np.bincount(pair_P % items, minlength=items)
    again_I = np.bincount(pair_P % items, weights=days_P > 1, minlength=items)
    overall = again_I.sum() / max(people_I.sum(), 1)
    rate_I: npt.NDArray[np.float64] = (again_I + PRIOR_PEOPLE * overall) / (people_I + PRIOR_PEOPLE)
    return rate_I.astype(np.float32)


def weighted_sum(
    weights_GS: FloatArray, own: Own, *, rebuy_I: FloatArray, als_I: FloatArray, popular_I: FloatArray
) -> FloatArray:
    """Return the score [I] of every item, by the weights of the person's bucket."""
    _, _, als, popularity = weights_GS[own.bucket]
    scores_I: FloatArray = als * als_I + popularity * popular_I
    scores_I[own.row_H] += own_sum(weights_GS, own, rebuy_I=rebuy_I)
    return scores_I


def own_sum(weights_GS: FloatArray, own: Own, *, rebuy_I: FloatArray) -> FloatArray:
    """Return what the person's own items gain for being theirs [H]."""
    personal, rebuy, *_ = weights_GS[own.bucket]
    gained_H: FloatArray = (personal + rebuy * rebuy_I[own.row_H]) * np.sqrt(own.mass_H)
    return gained_H


def sources_of(
    row_C: RowArray, own: Own, *, rebuy_I: FloatArray, als_C: FloatArray, popular_I: FloatArray
) -> FloatArray:
    """Return each source's score [C, S] of these items; the weighted sum of a row is the item's score."""
    (mass_C,) = _spread(row_C, own, [(own.mass_H, 0.0)])
    personal_C = np.sqrt(mass_C)
    return np.stack([personal_C, rebuy_I[row_C] * personal_C, als_C, popular_I[row_C]], axis=1)


def features_of(
    row_C: RowArray, own: Own, *, rebuy_I: FloatArray, als_C: FloatArray, popular_I: FloatArray
) -> FloatArray:
    """Return the FEATURES [C, F] of these items."""
    own_values = [(own.mass_H, 0.0), (own.recent_H, 0.0), (own.total_H, 0.0), (own.days_H, 0.0)]
    spread = _spread(row_C, own, [*own_values, (own.age_days_H, NEVER_DAYS)])
    lines_C = np.full(len(row_C), own.lines, dtype=np.float32)
    return np.stack([*spread, rebuy_I[row_C], als_C, popular_I[row_C], lines_C], axis=1)


def _spread(row_C: RowArray, own: Own, values: Sequence[tuple[FloatArray, float]]) -> list[FloatArray]:
    """Return each value for the given items [C] in the place of the own ones [H], and what it is for the others."""
    if not len(own.row_H):
        return [np.full(len(row_C), otherwise, dtype=np.float32) for _, otherwise in values]
    place_C = np.minimum(np.searchsorted(own.row_H, row_C), len(own.row_H) - 1)
    is_own_C = own.row_H[place_C] == row_C
    return [np.where(is_own_C, value_H[place_C], np.float32(otherwise)) for value_H, otherwise in values]
