"""What candidates can come from: models and lists placed in one table of items, made once for all requests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from bespoke.catalog import EMPTY_TABLE, Item, ItemTable
from bespoke.events import ItemId
from bespoke.models.arrays import RowArray
from bespoke.models.bundle import Bundle
from bespoke.recommend.placed import Allowed, CategoryLists, PlacedModel, RankedList
from bespoke.vocabulary import Vocabulary

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
        return cls(bundle, PlacedModel.of(name, bundle.model, table), _bundled(bundle, table))

    def over(self, table: ItemTable) -> Self | None:
        """Return it in a table that has its items in the same rows, whatever else it holds; None where it has not."""
        placed = self.placed.over(table)
        return None if placed is None else replace(self, placed=placed, popular=_bundled(self.bundle, table))


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


def _bundled(bundle: Bundle, table: ItemTable) -> RankedList:
    row_N = table.items.rows(bundle.popular)
    return RankedList.of(BUNDLED_POPULAR, row_N[row_N >= 0])


def table_of(bundles: Iterable[Bundle]) -> ItemTable:
    """Return all items of some bundles, described by the first that describes them; models' own items without words."""
    table, known = EMPTY_TABLE, list[Vocabulary[ItemId]]()
    for bundle in bundles:
        # Models of one training mostly know the same items: equal vocabularies are looked up once.
        if bundle.table.items not in known:
            table = table.merged(bundle.table)
            known.append(bundle.table.items)
        items = bundle.model.vocabulary
        if items not in known:
            table = table.merged(
                ItemTable.of([Item(items.ids[row]) for row in np.flatnonzero(table.items.rows_of(items) < 0)])
            )
            known.append(items)
    return table


def by_popularity(placed: PlacedModel) -> RankedList:
    """Return a model's items by how much they are taken."""
    popularity_I = placed.model.popularity_I
    order_I = np.argsort(-popularity_I, kind="stable")
    return RankedList(POPULAR, placed.row_I[order_I], popularity_I[order_I])
