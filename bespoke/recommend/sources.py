"""What candidates can come from: models and lists placed in one table of items, made once for all requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from bespoke.catalog import EMPTY_TABLE, Item, ItemTable
from bespoke.models.arrays import RowArray
from bespoke.models.bundle import Bundle
from bespoke.recommend.placed import Allowed, CategoryLists, PlacedModel, RankedList

POPULAR = "popular"
BUNDLED_POPULAR = "bundled_popular"
CATALOG = "catalog"


@dataclass(frozen=True)
class Shelf:
    """One bundle in the table."""

    bundle: Bundle
    placed: PlacedModel
    popular: RankedList
    """Its list of what was popular when it was trained."""

    @classmethod
    def of(cls, name: str, bundle: Bundle, table: ItemTable) -> Self:
        """Place a bundle in a table that holds all of its items."""
        popular = table.items.rows(bundle.popular)
        placed = PlacedModel.of(name, bundle.model, table)
        return cls(bundle, placed, RankedList.of(BUNDLED_POPULAR, popular[popular >= 0]))

    def over(self, table: ItemTable) -> Self:
        """Return it in a table that has the same items in the same rows, and perhaps more after them."""
        return replace(self, placed=self.placed.over(table))


@dataclass(frozen=True)
class Sources:
    """What the candidates of one engine can come from."""

    table: ItemTable = EMPTY_TABLE
    model: PlacedModel | None = None
    """The variant's."""
    pointed: Mapping[str, PlacedModel] = field(default_factory=dict)
    """By pointer."""
    popular: RankedList | None = None
    """What everybody takes now."""
    trending: RankedList | None = None
    """The same over a shorter time, where a model is there for it."""
    in_category: CategoryLists | None = None
    in_segment: Mapping[str, RankedList] = field(default_factory=dict)
    """What the members of a segment take, by segment."""
    fallbacks: tuple[RankedList, ...] = ()
    """Best first."""

    @classmethod
    def of(
        cls,
        table: ItemTable,
        *,
        shelf: Shelf | None,
        pointed: Mapping[str, Shelf] | None = None,
        popularity: Shelf | None = None,
        trending: Shelf | None = None,
        in_segment: Mapping[str, Shelf] | None = None,
    ) -> Self:
        """Put together what one variant can draw from.

        Args:
            table: all items.
            shelf: the variant's model; None leaves the others.
            pointed: other models by pointer.
            popularity: a model that counts popularity in the window.
            trending: one that counts it over a shorter time.
            in_segment: models that count what a segment's members take, by segment.
        """
        popular = None if popularity is None else by_popularity(popularity.placed)
        bundled = [one.popular for one in (shelf, popularity) if one is not None]
        rest = RankedList.of(CATALOG, np.arange(len(table), dtype=np.int32))
        grouped = popular or (bundled[0] if bundled else None)
        return cls(
            table,
            None if shelf is None else shelf.placed,
            {name: one.placed for name, one in (pointed or {}).items()},
            popular or grouped,
            None if trending is None else by_popularity(trending.placed),
            None if grouped is None else CategoryLists.of(table, grouped),
            {segment: by_popularity(one.placed) for segment, one in (in_segment or {}).items()},
            tuple(one for one in (popular, *bundled, rest) if one is not None),
        )

    def model_can(self, allowed: Allowed, excluded_T: RowArray) -> bool:
        """Return whether the variant's model knows any item that may come."""
        if self.model is None:
            return False
        may_T = allowed.mask_T.copy()
        may_T[excluded_T] = False
        return bool(may_T[self.model.row_I].any())


def table_of(bundles: Iterable[Bundle]) -> ItemTable:
    """Return all items of some bundles, described by the first that describes them; models' own items without words."""
    table = EMPTY_TABLE
    for bundle in bundles:
        table = table.merged(bundle.table)
        ids = bundle.model.vocabulary.ids
        unknown = np.flatnonzero(table.items.rows(ids) < 0)
        if len(unknown):
            table = table.merged(ItemTable.of([Item(ids[row]) for row in unknown]))
    return table


def by_popularity(placed: PlacedModel) -> RankedList:
    """Return a model's items by how much they are taken."""
    popularity_I = placed.model.popularity_I
    order_I = np.argsort(-popularity_I, kind="stable")
    return RankedList(POPULAR, placed.row_I[order_I], popularity_I[order_I])
