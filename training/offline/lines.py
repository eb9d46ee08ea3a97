"""Lines of files in rows of two vocabularies, ordered by person and time: what splits, models and metrics work on.

Shapes: N lines, U users and I items of all files together, S users of a selection.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, RowArray, TimeArray
from bespoke.models.base import Interactions
from bespoke.models.history import History, InteractionWeights
from bespoke.profiles import Recent
from bespoke.vocabulary import Vocabulary
from training.offline.columns import OTHER, OTHER_CODE, TYPES, Codes

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ids:
    """Everybody and everything that the files name, in alphabetical order."""

    users: tuple[UserId, ...]
    items: tuple[ItemId, ...]

    @cached_property
    def row_of_item(self) -> Mapping[ItemId, int]:
        """The row of each item."""
        return {item_id: row for row, item_id in enumerate(self.items)}


@dataclass(frozen=True)
class Lines:
    """N lines, ordered by user, then by time, then as the file has them."""

    ids: Ids
    user_N: RowArray
    item_N: RowArray
    at_ms_N: TimeArray
    """0 everywhere where the files have no times."""
    type_N: Codes
    """Places in TYPES."""
    weight_N: AnyArray
    """What the file says that the line counts, NaN where it says nothing."""
    timed: bool

    def __len__(self) -> int:
        return len(self.user_N)

    @classmethod
    def of(
        cls,
        ids: Ids,
        user_N: RowArray,
        item_N: RowArray,
        at_ms_N: TimeArray | None,
        type_N: Codes,
        weight_N: AnyArray,
    ) -> "Lines":
        """Put lines, given in the order of the file, into order."""
        times_N = np.zeros(len(user_N), dtype=np.int64) if at_ms_N is None else at_ms_N
        order_N = np.lexsort((times_N, user_N))
        return cls(ids, user_N, item_N, times_N, type_N, weight_N, at_ms_N is not None).take(order_N)

    def take(self, chosen: AnyArray) -> "Lines":
        """Return the lines of a mask or of row numbers; their order must be that of these lines."""
        return Lines(
            self.ids,
            self.user_N[chosen],
            self.item_N[chosen],
            self.at_ms_N[chosen],
            self.type_N[chosen],
            self.weight_N[chosen],
            self.timed,
        )

    @cached_property
    def starts_U(self) -> AnyArray:
        """The first line of each user, and the end, [U + 1]."""
        return np.searchsorted(self.user_N, np.arange(len(self.ids.users) + 1))

    @cached_property
    def lines_U(self) -> AnyArray:
        """How many lines each user has."""
        return np.diff(self.starts_U)

    @cached_property
    def lines_I(self) -> AnyArray:
        """How many lines each item has."""
        return np.bincount(self.item_N, minlength=len(self.ids.items))

    @cached_property
    def user_rows(self) -> AnyArray:
        """The users who have lines."""
        return np.flatnonzero(self.lines_U)

    @cached_property
    def cut_ms(self) -> int:
        """The moment after the last line."""
        return int(self.at_ms_N.max(initial=0)) + 1

    @property
    def span_days(self) -> float:
        """Days between the first and the last line."""
        return float(np.ptp(self.at_ms_N)) / 86_400_000 if self.timed and len(self) else 0.0

    @cached_property
    def pairs(self) -> AnyArray:
        """The distinct (user, item) pairs as numbers in ascending order; see :func:`pair_of`."""
        return np.unique(pair_of(self.user_N, self.item_N, self.ids))

    @cached_property
    def place_N(self) -> AnyArray:
        """The number of each line among its user's, from 0."""
        return np.arange(len(self)) - self.starts_U[self.user_N]

    def line_weights(self, weights: InteractionWeights) -> AnyArray:
        """Return what each line counts: the file's own weight, or that of its type; types that are not ours count 1."""
        of_type = {**weights.of_type, OTHER: 1.0}
        own_N = np.array([of_type[name] for name in TYPES], dtype=np.float32)[self.type_N]
        return np.where(np.isnan(self.weight_N), own_N, self.weight_N).astype(np.float32)

    def interactions(self, weights: InteractionWeights) -> Interactions:
        """Return what a model learns from.

        Raises:
            TrainingError: no line counts anything.
        """
        weight_N = self.line_weights(weights)
        kept_N = weight_N > 0
        if not kept_N.any():
            raise TrainingError("no line of the training part counts anything; give weights above 0")
        user_rows, user_N = np.unique(self.user_N[kept_N], return_inverse=True)
        item_rows, item_N = np.unique(self.item_N[kept_N], return_inverse=True)
        return Interactions(
            Vocabulary([self.ids.users[row] for row in user_rows]),
            Vocabulary([self.ids.items[row] for row in item_rows]),
            user_N.astype(np.int32),
            item_N.astype(np.int32),
            self.at_ms_N[kept_N],
            weight_N[kept_N],
        )

    def histories(self, user_rows: AnyArray, weights: InteractionWeights, *, at_ms: int) -> Iterator[History]:
        """Yield all that is known of each user, however long ago."""
        weight_N = self.line_weights(weights)
        # The types say it all unless the file has weights of its own, or types that are not ours.
        plain_N = np.isnan(self.weight_N) & (self.type_N != OTHER_CODE)
        items = self.ids.items
        for row in user_rows:
            lines = slice(self.starts_U[row], self.starts_U[row + 1])
            recent = tuple(
                Recent(at, items[item], TYPES[kind], 1.0)
                for at, item, kind in zip(
                    self.at_ms_N[lines].tolist(), self.item_N[lines].tolist(), self.type_N[lines].tolist(), strict=True
                )
            )
            own = None if plain_N[lines].all() else tuple(weight_N[lines].tolist())
            yield History(self.ids.users[row], recent, at_ms, own)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items that may be recommended to each user: pairs in ascending order."""

    ids: Ids
    pairs: AnyArray

    def of_user(self, row: int) -> AnyArray:
        """Return the rows of a user's candidate items."""
        first, end = np.searchsorted(self.pairs, [row * len(self.ids.items), (row + 1) * len(self.ids.items)])
        return self.pairs[first:end] - row * len(self.ids.items)


def pair_of(user_N: AnyArray, item_N: AnyArray, ids: Ids) -> AnyArray:
    """Return one number for each (user, item) pair."""
    pair_N: AnyArray = user_N.astype(np.int64) * max(1, len(ids.items)) + item_N
    return pair_N


def is_in(pair_N: AnyArray, pairs: AnyArray) -> Bools:
    """Return whether each number is among ``pairs``, which ascend."""
    if not len(pairs):
        return np.zeros(pair_N.shape, dtype=np.bool_)
    place = np.minimum(np.searchsorted(pairs, pair_N), len(pairs) - 1)
    found: Bools = pairs[place] == pair_N
    return found


def rows_of(values: Any, known: Sequence[Any]) -> RowArray:
    """Return the row of each Arrow string among ``known``, -1 where it is none of them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(values, value_set=pa.array(known, pa.string()))
    rows: RowArray = pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return rows
