"""Models placed in one table of items: their answers in the table's rows. T is the number of items in the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from bespoke.catalog import ItemTable
from bespoke.events import ItemId
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import EMPTY
from bespoke.models.nearest import Directions
from bespoke.models.retrieval import Retrieved, item_vectors, retrieve, similar
from bespoke.vocabulary import Vocabulary

BoolArray = npt.NDArray[np.bool_]
NOTHING = Retrieved(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class Allowed:
    """Which items of a table may come, as a mask that many requests share."""

    __slots__ = ("__weakref__", "all", "mask_T")

    def __init__(self, mask_T: BoolArray) -> None:
        self.mask_T = mask_T
        self.all = bool(mask_T.all())


@dataclass(frozen=True)
class PlacedModel:
    """A model, and where its items stand in the table."""

    name: str
    """What answers call it."""
    model: Model
    items: Vocabulary[ItemId]
    """Those of the table."""
    row_I: RowArray
    """The table's row of each of the model's items."""
    item_T1: RowArray
    """The model's row of each item of the table, -1 where it has none; and -1 at the end, for rows of -1."""
    points: Directions | None
    """Its items' vectors, of length 1 where they are asked for."""
    _barred: WeakKeyDictionary[Allowed, BoolArray] = field(default_factory=WeakKeyDictionary, repr=False)

    @classmethod
    def of(cls, name: str, model: Model, table: ItemTable) -> Self:
        """Place ``model`` in ``table``, which holds all of its items."""
        row_I = table.items.rows_of(model.vocabulary)
        return cls(name, model, table.items, row_I, _items_at(row_I, table), item_vectors(model))

    def over(self, table: ItemTable) -> Self | None:
        """Return it in a table that has its items in the same rows, whatever else it holds; None where it has not."""
        if not table.items.stands_at(self.row_I, self.model.vocabulary):
            return None
        return replace(self, items=table.items, item_T1=_items_at(self.row_I, table), _barred=WeakKeyDictionary())

    def retrieve(self, history: History, *, k: int, allowed: Allowed, exclude_T: RowArray) -> Retrieved:
        """Return the model's best ``k`` allowed items for a person, in rows of the table."""
        self._look_up(history)
        return self._placed(
            retrieve(self.model, history, k=k, barred_I=self._barred_by(allowed), exclude=self._own(exclude_T))
        )

    def similar(self, row: int, *, k: int, allowed: Allowed, exclude_T: RowArray) -> Retrieved:
        """Return the ``k`` allowed items that are most like one of the table; none where the model does not know it."""
        own = int(self.item_T1[row])
        if own < 0:
            return NOTHING
        return self._placed(
            similar(self.model, own, k=k, barred_I=self._barred_by(allowed), exclude=self._own(exclude_T))
        )

    def scores(self, history: History, rows: RowArray) -> FloatArray:
        """Return the model's score of each of the table's ``rows``; minus infinity where it knows nothing of one."""
        own = self.item_T1[rows]
        scores_I = self.model.scores(history)
        return np.where(own >= 0, scores_I[np.maximum(own, 0)], -np.inf).astype(np.float32)

    def directions(self, rows: RowArray) -> FloatArray | None:
        """Return the vectors of the table's ``rows`` at length 1; zeros where there is none."""
        return None if self.points is None else self.points[self.item_T1.take(rows)]

    def _look_up(self, history: History) -> None:
        """Give the model its rows of the person's lines, from the table's, which are looked up once for all models."""
        if history.shared is not None:
            row_N = history.shared.rows(self.items)
            history.shared.put(self.model.vocabulary, self.item_T1.take(row_N))

    def _placed(self, found: Retrieved) -> Retrieved:
        return Retrieved(self.row_I[found.row_K], found.score_K)

    def _own(self, rows: RowArray) -> RowArray:
        if not len(rows):
            return EMPTY
        own = self.item_T1[rows]
        return own[own >= 0]

    def _barred_by(self, allowed: Allowed) -> BoolArray | None:
        if allowed.all:
            return None
        barred_I = self._barred.get(allowed)
        if barred_I is None:
            barred_I = self._barred[allowed] = ~allowed.mask_T[self.row_I]
        return barred_I


def _items_at(row_I: RowArray, table: ItemTable) -> RowArray:
    item_T1 = np.full(len(table) + 1, -1, dtype=np.int32)
    item_T1[row_I] = np.arange(len(row_I), dtype=np.int32)
    return item_T1


@dataclass(frozen=True, slots=True)
class RankedList:
    """Items in an order that is the same for everybody, such as by popularity."""

    name: str
    row_N: RowArray
    score_N: FloatArray

    @classmethod
    def of(cls, name: str, rows: Sequence[int] | RowArray) -> Self:
        """Make a list without scores of its own: one over the place."""
        row_N = np.ascontiguousarray(rows, dtype=np.int32)
        return cls(name, row_N, (1.0 / np.arange(1, len(row_N) + 1)).astype(np.float32))

    def take(self, *, k: int, allowed: Allowed, exclude_T: RowArray) -> Retrieved:
        """Return the first ``k`` that are allowed and not among ``exclude_T``."""
        from bespoke.recommend.kernels import permitted

        place_K = permitted(self.row_N, allowed.mask_T, exclude_T, k)
        return Retrieved(self.row_N[place_K], self.score_N[place_K])


@dataclass(frozen=True, slots=True)
class CategoryLists:
    """The items of each narrowest category, the most popular first."""

    row_N: RowArray
    """All items that are in a category and that somebody took, by category."""
    start_G: npt.NDArray[np.int64]
    """Where each category begins in ``row_N``; one more than there are categories."""

    @classmethod
    def of(cls, table: ItemTable, popular: RankedList) -> Self:
        """Group the items of a list by category, in the list's order."""
        code_N = table.narrowest_T[popular.row_N]
        order_N = np.argsort(code_N, kind="stable")
        order_N = order_N[code_N[order_N] >= 0]
        start_G = np.searchsorted(code_N[order_N], np.arange(len(table.categories) + 1))
        return cls(popular.row_N[order_N], start_G)

    def of_category(self, code: int) -> RowArray:
        """Return the items of one category, most popular first."""
        return self.row_N[self.start_G[code] : self.start_G[code + 1]]
