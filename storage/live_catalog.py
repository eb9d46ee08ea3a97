"""The live catalog in one process: follows the control store, and lays what was said of items over what was known."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, Self

from bespoke.catalog import Item, ItemTable
from bespoke.errors import BespokeError
from bespoke.events import ItemId
from storage.item_changes import ItemChange, LiveItem

logger = logging.getLogger(__name__)


class ItemStore(Protocol):
    """What is followed: the control store."""

    def items_since(self, seq: int) -> tuple[list[LiveItem], int]:
        """Return what changed after ``seq``, and what to ask with next time."""


class _Described:
    """The items that changes of one table came to, so that one change more does not describe all of them anew."""

    def __init__(self) -> None:
        self._known: tuple[ItemTable | None, dict[ItemId, tuple[ItemChange, Item]]] = None, {}

    def of(self, table: ItemTable, changes: Mapping[ItemId, ItemChange]) -> list[Item]:
        """Return the changed items, by id."""
        of_table, known = self._known
        if of_table is not table:
            known = {}
        found = {id: known[id][1] for id, change in changes.items() if id in known and known[id][0] is change}
        fresh = [change for id, change in changes.items() if id not in found]
        rows = table.items.rows([change.item_id for change in fresh]).tolist()
        for change, row in zip(fresh, rows, strict=True):
            before = None if row < 0 or change.whole else table.item(row)
            found[change.item_id] = item = change.onto(before)
            known[change.item_id] = change, item
        self._known = table, known
        return [found[id] for id in sorted(found)]


@dataclass(frozen=True, slots=True)
class Overlay:
    """What was in force of changed items at one moment."""

    changes: Mapping[ItemId, ItemChange] = field(default_factory=lambda: MappingProxyType({}))
    seq: int = 0
    """The number of the last change that is in here."""
    _described: _Described = field(default_factory=_Described, compare=False, repr=False)

    @classmethod
    def of(cls, items: Iterable[LiveItem], *, seq: int) -> Self:
        """Return what was in force at ``seq``, as :meth:`storage.control_items.CatalogItems.items_at` tells it."""
        return cls({one.change.item_id: one.change for one in items}, seq)

    def and_then(self, items: Iterable[LiveItem], *, seq: int) -> "Overlay":
        """Return this with what changed since."""
        return Overlay({**self.changes, **{one.change.item_id: one.change for one in items}}, seq, self._described)

    def over(self, table: ItemTable) -> ItemTable:
        """Return ``table`` as items were described then: changed ones in their rows, new ones at the end.

        The same changes over the same table give the same rows, in whatever order they came.
        """
        return table.changed(self._described.of(table, self.changes))


class LiveCatalog:
    """Holds the newest overlay. One thread polls, any may read."""

    def __init__(self, items: ItemStore) -> None:
        """Begin with nothing; the first poll takes everything that is in force."""
        self._items = items
        self._overlay = Overlay()
        self._away = False

    @property
    def overlay(self) -> Overlay:
        """What is in force as of the last poll that reached the store."""
        return self._overlay

    @property
    def seq(self) -> int:
        """The number of the last change that is in here."""
        return self._overlay.seq

    @property
    def away(self) -> bool:
        """Whether the last poll did not reach the store."""
        return self._away

    def poll(self) -> bool:
        """Look once; return whether anything changed. While the store cannot be reached the last state stays."""
        known = self._overlay
        try:
            changed, seq = self._items.items_since(known.seq)
        except BespokeError as error:
            if not self._away:
                logger.warning("the live catalog cannot be followed: %s", type(error).__name__)
            self._away = True
            return False
        self._away = False
        if changed:
            # Swapped in one go with its number: readers see one state.
            self._overlay = known.and_then(changed, seq=seq)
        return bool(changed)

    def over(self, table: ItemTable) -> ItemTable:
        """Return ``table`` as items are described now."""
        return self._overlay.over(table)
