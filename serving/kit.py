"""What answers are made with: bundles placed in one table of items, and an engine for each model and pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from bespoke.catalog import EMPTY_TABLE, Item, ItemTable
from bespoke.events import ItemId
from bespoke.models.bundle import Bundle
from bespoke.recommend import DEFAULT, Engine, Pipeline, Shelf, Sources, table_of
from bespoke.recommend.settings import SEGMENT_POINTERS
from bespoke.rules import RuleBook
from serving.pipelines import Recipes
from storage.live_catalog import Overlay

NO_CHANGES = Overlay()
TRENDING = "trending"
"""The pointer to a popularity model of a shorter half-life, for what is trending. It may be absent."""
POPULAR = "popular"
"""The pointer to a model of what is popular now, the fallback of all others. It may be absent."""


@dataclass(frozen=True)
class Kit:
    """Everything loaded, and the engines over it. One table for all, so that rules and filters are looked up once.

    It follows from the bundles by name, the recipes and the live changes alone: a decision can be made again from them.
    """

    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    """By pointer or fixed ``name@version``."""
    recipes: Recipes = field(default_factory=Recipes)
    overlay: Overlay = NO_CHANGES
    base: ItemTable = EMPTY_TABLE
    """All items as the bundles describe them."""
    table: ItemTable = EMPTY_TABLE
    """The same as described now."""
    shelves: Mapping[str, Shelf] = field(default_factory=dict)
    """By the bundle's ``name@version``."""
    book: RuleBook | None = None
    _engines: dict[tuple[str, str], Engine] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        bundles: Mapping[str, Bundle],
        *,
        recipes: Recipes,
        overlay: Overlay = NO_CHANGES,
        previous: "Kit | None" = None,
    ) -> Self:
        """Put a kit together; what of ``previous`` still holds is taken over."""
        before = previous or Kit()
        distinct = {reference(bundle): bundle for _, bundle in sorted(bundles.items())}
        same_bundles = list(distinct) == list(before.shelves)
        base = before.base if same_bundles else table_of(distinct.values())
        same_table = same_bundles and overlay.seq == before.overlay.seq
        table = before.table if same_table else overlay.over(base)
        shelves = before.shelves if same_table else _shelves(distinct, table, before.shelves)
        same_rules = same_table and recipes.rules == before.recipes.rules
        book = before.book if same_rules and before.book is not None else RuleBook.of(recipes.rules, table)
        engines = before._engines if same_rules and recipes == before.recipes and _same(bundles, before.bundles) else {}
        return cls(dict(bundles), recipes, overlay, base, table, shelves, book, engines)

    def engine(self, model: str, pipeline: str = DEFAULT) -> Engine:
        """Return the engine of a model, by pointer or version, and a pipeline.

        Without that model it answers from the fallbacks; an unknown pipeline is the default one.
        """
        known = self._engines.get((model, pipeline))
        if known is None:
            # Two threads may make the same one: the later one wins, and both are good.
            known = self._engines[model, pipeline] = self._made(model, self.pipeline(pipeline))
        return known

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline; the default one where there is none of that name."""
        return self.recipes.pipelines.get(name, self.recipes.pipelines[DEFAULT])

    def item(self, item_id: ItemId) -> Item | None:
        """Return how an item is described now; None where neither a bundle nor the live catalog names it."""
        row = self.table.items.row(item_id)
        return None if row is None else self.table.item(row)

    def _made(self, model: str, pipeline: Pipeline) -> Engine:
        sources = Sources.of(
            self.table,
            shelf=self._shelf(model),
            pointed={name: shelf for name in pipeline.pointers if (shelf := self._shelf(name)) is not None},
            popularity=self._shelf(POPULAR),
            trending=self._shelf(TRENDING),
            in_segment=self._of_segments() if pipeline.by_segment else {},
        )
        return Engine.of(sources, pipeline=pipeline, book=self.book or RuleBook.of((), self.table))

    def _of_segments(self) -> dict[str, Shelf]:
        pointed = {name: self._shelf(name) for name in self.bundles if name.startswith(SEGMENT_POINTERS)}
        return {name.removeprefix(SEGMENT_POINTERS): shelf for name, shelf in pointed.items() if shelf is not None}

    def _shelf(self, name: str) -> Shelf | None:
        bundle = self.bundles.get(name)
        return None if bundle is None else self.shelves[reference(bundle)]


def reference(bundle: Bundle) -> str:
    """Return ``name@version`` of a bundle."""
    return f"{bundle.manifest.name}@{bundle.manifest.version}"


def _shelves(bundles: Mapping[str, Bundle], table: ItemTable, before: Mapping[str, Shelf]) -> dict[str, Shelf]:
    """Return each bundle in the table. Where its items stand as they did before, nothing is looked up anew."""
    shelves = {}
    for name, bundle in bundles.items():
        moved = before[name].over(table) if name in before else None
        shelves[name] = moved or Shelf.of(name, bundle, table)
    return shelves


def _same(bundles: Mapping[str, Bundle], others: Mapping[str, Bundle]) -> bool:
    return {name: reference(one) for name, one in bundles.items()} == {
        name: reference(one) for name, one in others.items()
    }
