"""Connecting: one view in the online store, opened at the first use and shared between threads."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING

from storage.features.encoding import COLUMNS
from storage.features.repository import VIEW, close_store, columns_of_view, open_rows, open_store
from storage.features.rows import OnlineRows
from storage.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


class OpenView:
    """A view that is open."""

    def __init__(self, settings: Settings, *, view: str, columns: Sequence[str]) -> None:
        self.store: FeatureStore = open_store(settings)
        ttl: timedelta = self.store.get_feature_view(view).ttl or timedelta(0)
        self.ttl_ms = ttl // timedelta(milliseconds=1)
        """Zero: states live for ever."""
        self.rows: OnlineRows = open_rows(settings, project=self.store.project, view=view, columns=columns)
        self._kinds: dict[str, Mapping[str, str]] = {}

    def oldest_ms(self, at_ms: int) -> int | None:
        """Return when the newest event of a state has to be received for it to be used at ``at_ms``; None: ever."""
        return at_ms - self.ttl_ms if self.ttl_ms else None

    def kinds_of(self, service: str) -> Mapping[str, str]:
        """Return the columns of people's states that a feature service names, and their kinds."""
        if service not in self._kinds:
            named = columns_of_view(self.store.get_feature_service(service, allow_cache=True))
            self._kinds[service] = {name: COLUMNS[name] for name in named}
        return self._kinds[service]

    def known_kinds_of(self, service: str) -> Mapping[str, str] | None:
        """Return the same where it was asked before; else None."""
        return self._kinds.get(service)

    def close(self) -> None:
        """Let go of the store."""
        self.rows.close()
        close_store(self.store)


class OnlineView:
    """Opens a view when it is used first."""

    def __init__(self, settings: Settings, *, view: str = VIEW, columns: Sequence[str] = tuple(COLUMNS)) -> None:
        self._settings, self._view, self._columns = settings, view, columns
        self._connecting = Lock()
        self._open: OpenView | None = None

    @property
    def now(self) -> OpenView | None:
        """The view if it is open."""
        return self._open

    def opened(self) -> OpenView:
        """Return the view; raises what Feast and its stores raise where it cannot be opened."""
        found = self._open
        if found is not None:
            return found
        with self._connecting:
            if self._open is None:
                self._open = OpenView(self._settings, view=self._view, columns=self._columns)
            return self._open

    def close(self) -> None:
        """Let go of the store; the next use connects anew."""
        with self._connecting:
            if self._open is not None:
                self._open.close()
                self._open = None
