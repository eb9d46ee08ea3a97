"""Delivery of online features: every profile that changed is pushed, and the log says how far that is."""

import logging
import time
from collections.abc import Sequence
from itertools import islice
from typing import Protocol

from bespoke.errors import Unavailable
from bespoke.events import UserId
from storage.eventlog.base import FEATURES_GROUP, EventLog
from storage.profiles import ProfileStore, StoredProfile

log = logging.getLogger(__name__)

PUSH_ROWS = 256
PUSH_S = 0.2
"""How long one delivery may push before the log gets its turn again."""
MAX_FRESH = 50_000
"""States kept in memory for their push."""
CHECK_EVERY_S = 5.0
"""How often the online store is asked whether it still holds what was pushed."""


class FeatureSink(Protocol):
    """Where online features go."""

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Write the state of these people; raises Unavailable where the store cannot be reached."""

    def marked(self) -> bool:
        """Return whether the store holds the mark, so has lost nothing since; raises Unavailable."""

    def mark(self) -> None:
        """Leave the mark; raises Unavailable."""


class FeatureDelivery:
    """Pushes what changed, oldest change first. Pushing twice changes nothing.

    What was just committed is pushed from memory: reading it back would cost as much as folding it. After a start, a
    failure or too much at once it is read from the profile store, which knows of every state whether it was pushed.
    """

    def __init__(self, log_: EventLog, profiles: ProfileStore, sink: FeatureSink, partitions: Sequence[int]) -> None:
        self._log, self._profiles, self._sink, self._partitions = log_, profiles, sink, list(partitions)
        self._said: dict[int, int] = {}
        self._checked_s: float | None = None
        self._refilling = False
        self._fresh: dict[UserId, StoredProfile] = {}
        self._reading_back = True
        self.complete = False
        """Whether everything that was offered is online."""
        self.behind: str | None = None
        """Why online features are behind, or None."""

    def offer(self, committed: Sequence[StoredProfile]) -> None:
        """Take states that were just committed; of one person only the last is pushed."""
        self.complete = self.complete and not committed
        if self._reading_back:
            return
        self._fresh.update((row.user_id, row) for row in committed)
        if len(self._fresh) > MAX_FRESH:
            self._read_back()

    def deliver(self, committed: dict[int, int], *, for_s: float = PUSH_S) -> None:
        """Push for about ``for_s``; where nothing is left, say that features are as far as ``committed``.

        A store that cannot be reached is noted in :attr:`behind`, and everything waits for the next call.
        """
        try:
            self._check()
            self.complete = self._push(for_s=for_s)
            if self.complete:
                self._refilled()
                self._say(committed)
        except Unavailable as error:
            self._read_back()
            if self.behind is None:
                log.error("online features are behind: %s", error)
            self.behind = str(error)
            return
        self.behind = None

    def _check(self) -> None:
        """Begin anew where the store lacks its mark: it is a new one, or has lost what it held."""
        recently = self._checked_s is not None and time.monotonic() - self._checked_s < CHECK_EVERY_S
        if self._refilling or recently:
            return
        self._checked_s = time.monotonic()
        if not self._sink.marked():
            self._refilling = True
            self._profiles.forget_pushed()
            self._read_back()
            self._say(dict.fromkeys(self._partitions, 0))

    def _refilled(self) -> None:
        if self._refilling:
            self._sink.mark()
            self._refilling = False

    def _read_back(self) -> None:
        self._fresh, self._reading_back, self.complete = {}, True, False

    def _push(self, *, for_s: float) -> bool:
        """Push until the time is up; return whether nothing is left."""
        until = time.monotonic() + for_s
        while True:
            rows = self._next_rows()
            if rows:
                self._sink.push(rows)
                self._profiles.mark_pushed([(row.user_id, row.version) for row in rows])
            if len(rows) < PUSH_ROWS:
                self._reading_back = False
                return True
            if time.monotonic() > until:
                return False

    def _next_rows(self) -> list[StoredProfile]:
        if self._reading_back:
            return self._profiles.unpushed(self._partitions, limit=PUSH_ROWS)
        return [self._fresh.pop(user_id) for user_id in list(islice(self._fresh, PUSH_ROWS))]

    def _say(self, committed: dict[int, int]) -> None:
        for partition, offset in committed.items():
            if self._said.get(partition) != offset:
                self._log.set_position(FEATURES_GROUP, partition, offset)
                self._said[partition] = offset
