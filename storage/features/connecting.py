"""Connecting: one view in the online store, opened at the first use and shared between threads."""

from collections.abc import Mapping, Sequence
from threading import Lock

from bespoke.errors import Unavailable
from storage.features.definitions import Definitions
from storage.features.encoding import COLUMNS
from storage.features.repository import VIEW, open_rows
from storage.features.rows import OnlineRows
from storage.settings import Settings


class OpenView:
    """A view that is open."""

    def __init__(self, settings: Settings, *, view: str, columns: Sequence[str]) -> None:
        definitions = Definitions.read(settings)
        self.ttl_ms = definitions.ttl_ms.get(view, 0)
        """Zero: states live for ever."""
        self.rows: OnlineRows = open_rows(settings, project=definitions.project, view=view, columns=columns)
        self._kinds = {
            service: {name: COLUMNS[name] for name in named[VIEW]}
            for service, named in definitions.columns.items()
            if VIEW in named
        }

    def oldest_ms(self, at_ms: int) -> int | None:
        """Return when the newest event of a state has to be received for it to be used at ``at_ms``; None: ever."""
        return at_ms - self.ttl_ms if self.ttl_ms else None

    def kinds_of(self, service: str) -> Mapping[str, str]:
        """Return the columns of people's states that a feature service names, and their kinds.

        Raises:
            Unavailable: it was never registered.
        """
        if service not in self._kinds:
            raise Unavailable(f"no feature service is called {service!r}; `bespoke up` registers feature_repo/ anew")
        return self._kinds[service]

    def close(self) -> None:
        """Let go of the store."""
        self.rows.close()


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
        """Return the view; raises what stores raise where it cannot be opened."""
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
