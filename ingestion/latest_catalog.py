"""The catalog as it is now: read again when its file has changed, under what was said of items since."""

import time
from collections.abc import Callable

from bespoke.catalog import EMPTY_CATALOG, Catalog
from storage.lake import Lake
from storage.live_catalog import LiveCatalog

LOOK_EVERY_S = 5.0


class LatestCatalog:
    """Items by id, at hand."""

    def __init__(
        self, lake: Lake, live: LiveCatalog | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read descriptions from ``lake`` and what was changed live from ``live``, which only this polls."""
        self._lake, self._live, self._monotonic = lake, live, monotonic
        self._described = self._catalog = EMPTY_CATALOG
        self._looked_s: float | None = None
        self._stamp: tuple[int, int] | None = None

    def __call__(self) -> Catalog:
        """Return the catalog as it was at most ``LOOK_EVERY_S`` ago; a control store that is away adds nothing new."""
        now_s = self._monotonic()
        if self._looked_s is None or now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._look()
        return self._catalog

    def _look(self) -> None:
        stamp, moved = self._lake.items_stamp(), self._live is not None and self._live.poll()
        if stamp != self._stamp:
            self._described = {item.item_id: item for item in self._lake.catalog()}
            self._stamp = stamp
        elif not moved:
            return
        changes = {} if self._live is None else self._live.overlay.changes
        changed = {item_id: change.onto(self._described.get(item_id)) for item_id, change in changes.items()}
        self._catalog = {**self._described, **changed}
