"""Histories of many people at once, and what the person tower of two_tower reads in them.

Training cuts histories out of everybody's lines, serving gets them with the request; both become :class:`Lines`, so a
person looks the same to either. Shapes: B people, L lines of all of them together, P numbers about each person.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from bespoke.clock import DAY_MS
from bespoke.events import ItemId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray
from bespoke.models.history import History, InteractionWeights, decayed
from bespoke.vocabulary import Vocabulary

ABOUT_PERSON = 9
"""How many numbers :meth:`Lines.about` gives."""
RECENTLY_DAYS = 7.0
TINY = 1e-300


@dataclass(frozen=True)
class Lines:
    """The lines of B people, one person's after another's, oldest first."""

    starts_B1: npt.NDArray[np.int64]
    """Where each person's lines begin, and the end [B + 1]."""
    item_L: RowArray
    at_ms_L: TimeArray
    weight_L: FloatArray
    """What each line counts by its interaction type."""
    at_ms_B: TimeArray
    """From when each person is looked at."""

    @cached_property
    def counts_B(self) -> npt.NDArray[np.int64]:
        """How many lines each person has."""
        return np.diff(self.starts_B1)

    @cached_property
    def person_L(self) -> npt.NDArray[np.int64]:
        """Whose line it is."""
        return np.repeat(np.arange(len(self.at_ms_B)), self.counts_B)

    def shares(self, *, half_life_days: float) -> FloatArray:
        """Return what share each line has in its person's taste [L], newer ones more."""
        if len(self.at_ms_B) == 1:
            one = self._one(half_life_days)
            return one.weight_L / np.float32(max(one.mass, TINY))
        weight_L = self.aged(half_life_days)
        total_B = np.bincount(self.person_L, weights=weight_L, minlength=len(self.at_ms_B))
        return (weight_L / np.maximum(total_B, TINY)[self.person_L]).astype(np.float32)

    def about(self, *, half_life_days: float) -> FloatArray:
        """Return numbers about each person [B, P]: a one, then amounts, variety, recency and rhythm; 0 where none."""
        if len(self.at_ms_B) == 1:
            return self._about_one(half_life_days)
        count_B, person_L, people = self.counts_B, self.person_L, len(self.at_ms_B)
        age_L = np.maximum(self.at_ms_B[person_L] - self.at_ms_L, 0) / DAY_MS
        some_B = count_B > 0
        first_B = np.minimum(self.starts_B1[:-1], max(len(age_L) - 1, 0))
        oldest_B = np.where(some_B, age_L[first_B], 0) if len(age_L) else np.zeros(people)
        newest_B = np.where(some_B, age_L[self.starts_B1[1:] - 1], 0) if len(age_L) else np.zeros(people)
        mass_B = np.bincount(person_L, weights=self.aged(half_life_days), minlength=people)
        lately_B = np.bincount(person_L, weights=age_L < RECENTLY_DAYS, minlength=people)
        columns = [
            np.ones(people),
            some_B,
            np.log1p(count_B) / 5,
            np.log1p(mass_B) / 5,
            self._distinct() / np.maximum(count_B, 1),
            np.log1p(newest_B) / 5,
            np.log1p(oldest_B) / 5,
            np.log1p((oldest_B - newest_B) / np.maximum(count_B - 1, 1)),
            lately_B / np.maximum(count_B, 1),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def _about_one(self, half_life_days: float) -> FloatArray:
        """Return what :meth:`about` does, for one person: plain numbers take a tenth of the time of short arrays."""
        count, at_ms, one = len(self.item_L), int(self.at_ms_B[0]), self._one(half_life_days)
        oldest = newest = 0.0
        if count:
            oldest, newest = (max(at_ms - int(self.at_ms_L[place]), 0) / DAY_MS for place in (0, -1))
        numbers = (
            1.0,
            count > 0,
            math.log1p(count) / 5,
            math.log1p(one.mass) / 5,
            one.items / max(count, 1),
            math.log1p(newest) / 5,
            math.log1p(oldest) / 5,
            math.log1p((oldest - newest) / max(count - 1, 1)),
            one.lately / max(count, 1),
        )
        return np.array([numbers], dtype=np.float32)

    def matrix(self, *, items: int, half_life_days: float) -> csr_array:
        """Return what share each item has in each person's taste, [B, items]."""
        share_L = self.shares(half_life_days=half_life_days)
        return csr_array((share_L, self.item_L, self.starts_B1), shape=(len(self.at_ms_B), items))

    def without(self, dropped_L: npt.NDArray[np.bool_]) -> "Lines":
        """Return these lines without the dropped ones."""
        kept_L = ~dropped_L
        starts_B1 = np.concatenate([[0], np.cumsum(kept_L)])[self.starts_B1]
        return Lines(starts_B1, self.item_L[kept_L], self.at_ms_L[kept_L], self.weight_L[kept_L], self.at_ms_B)

    def _distinct(self) -> npt.NDArray[np.int64]:
        order = np.lexsort((self.item_L, self.person_L))
        person_L, item_L = self.person_L[order], self.item_L[order]
        fresh_L = np.ones(len(order), dtype=bool)
        fresh_L[1:] = (np.diff(person_L) != 0) | (np.diff(item_L) != 0)
        return np.bincount(person_L[fresh_L], minlength=len(self.at_ms_B))

    def aged(self, half_life_days: float) -> FloatArray:
        """Return what each line counts by its interaction type and age [L]."""
        if not half_life_days or not len(self.item_L):
            return self.weight_L
        if len(self.at_ms_B) == 1:
            return self._one(half_life_days).weight_L
        age_ms_L = np.maximum(self.at_ms_B[self.person_L] - self.at_ms_L, 0)
        return decayed(self.weight_L, -age_ms_L, at_ms=0, half_life_days=half_life_days)

    def _one(self, half_life_days: float) -> "_One":
        """Return what there is to know of the lines of one person; worked out once for each half-life."""
        known = self._ones.get(half_life_days)
        if known is None:
            from bespoke.models.history_kernel import lines_in_all

            at_ms = int(self.at_ms_B[0])
            in_all = lines_in_all(self.item_L, self.weight_L, self.at_ms_L, at_ms, half_life_days, RECENTLY_DAYS)
            known = self._ones[half_life_days] = _One(*in_all)
        return known

    @cached_property
    def _ones(self) -> dict[float, "_One"]:
        return {}


class _One(NamedTuple):
    """The lines of one person in all."""

    weight_L: FloatArray
    """What each line counts by its interaction type and age."""
    mass: float
    """The sum of these."""
    items: int
    """How many different ones there are."""
    lately: int
    """How many lines are recent."""


def lines_of(
    histories: Sequence[History], *, vocabulary: Vocabulary[ItemId], weights: InteractionWeights, limit: int
) -> Lines:
    """Return the newest ``limit`` lines of each history that are about known items and count for something."""
    if len(histories) == 1:
        return _lines_of_one(histories[0], vocabulary=vocabulary, weights=weights, limit=limit)
    columns = [history.columns for history in histories]
    counts_B = np.array([len(history.recent) for history in histories], dtype=np.int64)
    item_L, at_ms_L, weight_L = (
        np.concatenate([np.zeros(0, dtype=dtype), *parts])
        for dtype, parts in (
            (np.int32, [one.rows(vocabulary) for one in columns]),
            (np.int64, [one.at_ms_N for one in columns]),
            (np.float32, [h.weight_of(one, weights) for h, one in zip(histories, columns, strict=True)]),
        )
    )
    counted_L = (item_L >= 0) & (weight_L > 0)
    person_L = np.repeat(np.arange(len(histories)), counts_B)
    person_L, at_ms_L, item_L, weight_L = merged(
        person_L[counted_L], at_ms_L[counted_L], item_L[counted_L], weight_L[counted_L]
    )
    starts_B1 = np.searchsorted(person_L, np.arange(len(histories) + 1))
    at_ms_B = np.array([history.at_ms for history in histories], dtype=np.int64)
    older_L = np.arange(len(item_L)) < (starts_B1[1:] - limit)[person_L]
    lines = Lines(starts_B1, item_L, at_ms_L, weight_L, at_ms_B)
    return lines.without(older_L) if older_L.any() else lines


def _lines_of_one(
    history: History, *, vocabulary: Vocabulary[ItemId], weights: InteractionWeights, limit: int
) -> Lines:
    """Return what :func:`lines_of` does, for one person: no column of people to sort and cut by."""
    from bespoke.models.history_kernel import newest_lines  # numba takes a second to load

    columns = history.columns
    weight_N = history.weight_of(columns, weights)
    item_L, at_ms_L, weight_L = newest_lines(columns.rows(vocabulary), weight_N, columns.at_ms_N, limit)
    return Lines(np.array([0, len(item_L)]), item_L, at_ms_L, weight_L, np.array([history.at_ms], dtype=np.int64))


def merged(
    person_N: AnyArray, at_ms_N: TimeArray, item_N: RowArray, weight_N: FloatArray
) -> tuple[AnyArray, TimeArray, RowArray, FloatArray]:
    """Sort lines by person, time and item; lines of one person, time and item become one that weighs as much."""
    order = np.lexsort((weight_N, item_N, at_ms_N, person_N))
    person_N, at_ms_N, item_N, weight_N = person_N[order], at_ms_N[order], item_N[order], weight_N[order]
    fresh_N = np.ones(len(order), dtype=bool)
    fresh_N[1:] = (np.diff(person_N) != 0) | (np.diff(at_ms_N) != 0) | (np.diff(item_N) != 0)
    first = np.flatnonzero(fresh_N)
    total = np.add.reduceat(weight_N, first).astype(np.float32) if len(first) else weight_N
    return person_N[first], at_ms_N[first], item_N[first], total
