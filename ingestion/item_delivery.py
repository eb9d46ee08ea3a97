"""Delivery of items' states: what everybody does with each item goes online after the people's own states."""

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from bespoke.errors import Unavailable
from storage.profiles import ProfileStore, StoredItem

log = logging.getLogger(__name__)

PUSH_ITEMS = 256
PUSH_S = 2.0
"""How long one delivery may push before files get their turn again."""


class ItemSink(Protocol):
    """Where items' states go: :class:`storage.features.items.OnlineItems`."""

    def push(self, items: Sequence[StoredItem]) -> object:
        """Write these states where older ones are; raises Unavailable where the store cannot be reached."""


class ItemDelivery:
    """Pushes what was counted, the longest waiting first. Pushing twice changes nothing.

    Nothing is kept in memory: the profile store knows of every item whether it was pushed.
    """

    def __init__(self, profiles: ProfileStore, sink: ItemSink, partitions: Sequence[int]) -> None:
        self._profiles, self._sink, self._partitions = profiles, sink, list(partitions)
        self.complete = False
        """Whether everything that was counted when it was last asked is online."""
        self.behind: str | None = None
        """Why items are behind, or None."""

    def deliver(self, *, for_s: float = PUSH_S) -> bool:
        """Push for about ``for_s``; return whether everything that was counted is online.

        A store that cannot be reached is noted in :attr:`behind`, and everything waits for the next call.
        """
        try:
            self.complete = self._push(for_s=for_s)
        except Unavailable as error:
            self.complete = False
            if self.behind is None:
                log.error("online item features are behind: %s", error)
            self.behind = str(error)
            return False
        self.behind = None
        return self.complete

    def _push(self, *, for_s: float) -> bool:
        """Push until the time is up; return whether nothing is left."""
        until = time.monotonic() + for_s
        while True:
            items = self._profiles.unpushed_items(self._partitions, limit=PUSH_ITEMS)
            if not items:
                return True
            self._sink.push(items)
            self._profiles.mark_items_pushed(items, of_partitions=self._partitions)
            if time.monotonic() > until:
                return False
