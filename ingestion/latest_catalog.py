"""The catalog as it is now: read again when its file has changed."""

import time
from collections.abc import Callable

from bespoke.catalog import EMPTY_CATALOG, Catalog
from storage.lake import Lake

LOOK_EVERY_S = 5.0


class LatestCatalog:
    """Items by id, at hand."""

    def __init__(self, lake: Lake, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._lake, self._monotonic = lake, monotonic
        self._catalog = EMPTY_CATALOG
        self._looked_s: float | None = None
        self._stamp: tuple[int, int] | None = None

    def __call__(self) -> Catalog:
        """Return the catalog as it was at most ``LOOK_EVERY_S`` ago."""
        now_s = self._monotonic()
        if self._looked_s is None or now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            stamp = self._lake.items_stamp()
            if stamp != self._stamp:
                self._catalog = {item.item_id: item for item in self._lake.catalog()}
                self._stamp = stamp
        return self._catalog
