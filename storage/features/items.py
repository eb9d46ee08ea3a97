"""The latest state of each item, for serving: what everybody together does with it.

The profile store is the truth; what is online is its served view, in Feast's own form. Several processes may push the
same item, each with what it has read, so the stores compare versions themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bespoke.errors import Unavailable
from bespoke.events import ItemId
from bespoke.items import ITEM_COLUMNS, UNKNOWN, ItemState, from_row, to_row
from storage.features.connecting import OnlineView
from storage.features.encoding import EncodedState, decoded, encode, entity_key, key_prefix
from storage.features.failures import unavailable_on_failure
from storage.item_states import StoredItem
from storage.settings import Settings

ITEM_VIEW = "item_state"
ITEM_KEY = "item_id"
ITEM_VIEW_COLUMNS: Mapping[str, str] = {**ITEM_COLUMNS, "version": "int"}
"""Every column of the view of items' states, and its kind."""
_PREFIX = key_prefix(ITEM_KEY)


@dataclass(frozen=True, slots=True)
class OnlineItem:
    """An item's state as the online store has it."""

    state: ItemState
    """Empty where it is stale."""
    version: int
    stale: bool = False
    """Whether nothing was heard of the item for longer than a state may live."""


class OnlineItems:
    """The latest pushed state of each item. Connects at the first use; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._view = OnlineView(settings, view=ITEM_VIEW, columns=tuple(ITEM_VIEW_COLUMNS))

    def push(self, items: Sequence[StoredItem]) -> int:
        """Have readers see these states, each item once, where theirs is older; return how many were.

        Raises:
            Unavailable: the store cannot be reached; nothing or a part was written, so push the items again.
        """
        with unavailable_on_failure():
            return self._view.opened().rows.write_newer([encoded_item(item) for item in items])

    def read(self, item_ids: Sequence[ItemId], *, at_ms: int) -> dict[ItemId, OnlineItem]:
        """Return the states of ``item_ids`` in one call.

        Args:
            item_ids: what is asked for; items without a state are absent from the answer.
            at_ms: the time of the request; a state that is older than the view's time to live is stale then.

        Raises:
            Unavailable: the store cannot be reached, or the definitions were never applied.
        """
        with unavailable_on_failure():
            view = self._view.opened()
            found = view.rows.read(
                [entity_key(item_id, prefix=_PREFIX) for item_id in item_ids], tuple(ITEM_VIEW_COLUMNS)
            )
            items = [(id, values) for id, values in zip(item_ids, found, strict=True) if values.get("version")]
            return {item_id: _online_item(values, oldest_ms=view.oldest_ms(at_ms)) for item_id, values in items}

    def ready(self) -> bool:
        """Return whether a read would succeed now."""
        try:
            self.read([], at_ms=0)
        except Unavailable:
            return False
        return True

    def close(self) -> None:
        """Let go of the store; the next use connects anew."""
        self._view.close()


def encoded_item(item: StoredItem) -> EncodedState:
    """Return a state as the online stores hold it."""
    row = {**to_row(item.state), "version": item.version}
    values = {name: encode(kind, row[name]) for name, kind in ITEM_VIEW_COLUMNS.items()}
    return EncodedState(entity_key(item.item_id, prefix=_PREFIX), item.version, item.state.received_ms or 0, values)


def _online_item(values: Mapping[str, bytes], *, oldest_ms: int | None) -> OnlineItem:
    try:
        row = decoded(values, ITEM_VIEW_COLUMNS)
        stale = oldest_ms is not None and row["received_ms"] is not None and row["received_ms"] < oldest_ms
        return OnlineItem(UNKNOWN if stale else from_row(row), row["version"], stale)
    except (ValueError, IndexError, KeyError) as error:
        raise Unavailable("features: an item's row is damaged; `bespoke features rebuild` writes it anew") from error
