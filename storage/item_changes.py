"""What is said of an item while the system runs: a whole description, or only the fields that changed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bespoke.catalog import Item
from bespoke.events import ItemId

FIELDS = ("name", "category", "brand", "price", "available", "rebuy_after_days", "text")
"""What can be said of an item, by the names of :class:`bespoke.catalog.Item`."""


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What is said of one item.

    >>> sold_out = ItemChange(ItemId("tea"), {"available": False}, whole=False)
    >>> sold_out.onto(Item(ItemId("tea"), name="Green tea")).name
    'Green tea'
    """

    item_id: ItemId
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Values as JSON has them, by the names of ``FIELDS``; None where there is said to be none."""
    whole: bool = True
    """Whether a field that is not named has no value; otherwise it keeps the one that it has."""

    @classmethod
    def of(cls, item: Item) -> "ItemChange":
        """Return the whole description of ``item``."""
        said = {name: getattr(item, name) for name in FIELDS}
        return cls(item.item_id, {**said, "category": list(item.category)})

    def onto(self, item: Item | None) -> Item:
        """Return the item as it is described now, where ``item`` is what was known before."""
        before = Item(self.item_id) if item is None or self.whole else item
        said = dict(self.fields)
        if "category" in said:
            said["category"] = tuple(said["category"] or ())
        return replace(before, **said)

    def after(self, earlier: "ItemChange | None") -> "ItemChange":
        """Return what both say together, where ``earlier`` was said before."""
        if earlier is None or self.whole:
            return self
        return replace(earlier, fields={**earlier.fields, **self.fields})


@dataclass(frozen=True, slots=True)
class LiveItem:
    """What is in force of one item."""

    change: ItemChange
    """Everything that was said of it, as one."""
    seq: int
    """Grows with every change of any item."""
    changed_ms: int
    by: str
    """Who said it last: the id of an API key, or ``import``."""


def gathered(changes: Sequence[ItemChange]) -> dict[ItemId, ItemChange]:
    """Return one change of each item: what all of them say, one after the other."""
    together: dict[ItemId, ItemChange] = {}
    for change in changes:
        together[change.item_id] = change.after(together.get(change.item_id))
    return together


def overlaid(catalog: Mapping[ItemId, Item], live: Iterable[LiveItem]) -> dict[ItemId, Item]:
    """Return ``catalog`` with what was said since."""
    changes = [one.change for one in live]
    return {**catalog, **{one.item_id: one.onto(catalog.get(one.item_id)) for one in changes}}
