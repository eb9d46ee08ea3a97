"""The latest state of each person, for serving.

The profile store is the truth; what is online is its served view. Order is kept by versions before the push: the stores
keep whatever arrives last. Nor do they let anything expire: what is older than the view's time to live is held back
here, when it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from bespoke.errors import Unavailable
from bespoke.events import UserId
from bespoke.profiles import EMPTY, STATE_COLUMNS, Profile, from_row, to_row
from storage.features.encoding import COLUMNS, EncodedState, decode, decoded, encode, entity_key
from storage.features.failures import unavailable_on_failure
from storage.features.repository import VIEW, close_store, columns_of_view, open_rows, open_store
from storage.features.rows import OnlineRows
from storage.profiles import StoredProfile
from storage.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

_MARK = UserId("\0mark")
"""Stands in the store for "nothing was lost". No person has such an id: people's ids are printable."""


@dataclass(frozen=True, slots=True)
class OnlineProfile:
    """A profile as the online store has it."""

    profile: Profile
    """With what the service's columns hold, the rest empty; wholly empty where it is stale."""
    version: int
    segments: tuple[str, ...] = ()
    stale: bool = False
    """Whether nothing was heard of the person for longer than a state may live."""


class StateOfPerson(NamedTuple):
    """One person's state as the columns of :func:`bespoke.profiles.to_row`, as the lake has it."""

    user_id: UserId
    version: int
    columns: Mapping[str, Any]
    segments: Sequence[str] = ()

    @classmethod
    def of(cls, row: StoredProfile) -> "StateOfPerson":
        """Return what the processor's row says."""
        return cls(row.user_id, row.version, to_row(row.profile), row.segments)


class OnlineFeatures:
    """The latest pushed state of each profile. Connects at the first use; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connecting = Lock()
        self._connection: _Connection | None = None

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Make ``rows`` the states that readers see, all of them in one transaction or pipeline.

        Raises:
            Unavailable: the store cannot be reached; nothing or a part was written, so push the rows again.
        """
        with unavailable_on_failure():
            # Where a person comes twice, the last one counts.
            latest = {row.user_id: row for row in rows}
            self._connected().rows.write([encoded(StateOfPerson.of(row)) for row in latest.values()])

    def push_newer(self, states: Sequence[StateOfPerson]) -> int:
        """Write those of ``states``, each person once, whose version is above the one online; return how many.

        Safe beside others that push: no newer state is ever replaced.

        Raises:
            Unavailable: the store cannot be reached; repeat it with the same states.
        """
        with unavailable_on_failure():
            return self._connected().rows.write_newer([encoded(state) for state in states])

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> dict[UserId, OnlineProfile]:
        """Return the states of ``user_ids`` in one call, with the columns of feature service ``service``.

        Args:
            user_ids: who is asked for; people without a state are absent from the answer.
            service: name of a feature service.
            at_ms: the time of the request; a state that is older than the view's time to live is stale then.

        Raises:
            Unavailable: the store cannot be reached, or the definitions were never applied.
        """
        with unavailable_on_failure():
            connection = self._connected()
            kinds = connection.kinds_of(service)
            oldest_ms = at_ms - connection.ttl_ms if connection.ttl_ms else None
            found = connection.rows.read([entity_key(user_id) for user_id in user_ids], tuple(kinds))
            # What Feast's stores write of somebody without a state has no version.
            people = [(id, values) for id, values in zip(user_ids, found, strict=True) if values.get("version")]
            return {user_id: _online_profile(values, kinds, oldest_ms=oldest_ms) for user_id, values in people}

    def marked(self) -> bool:
        """Return whether the store holds the mark: if not, it is new or has lost what it held.

        Raises:
            Unavailable: the store cannot be reached, or the definitions were never applied.
        """
        return bool(self._versions([_MARK])[0])

    def mark(self) -> None:
        """Leave the mark, once everything is pushed.

        Raises:
            Unavailable: the store cannot be reached.
        """
        self.push([StoredProfile(_MARK, EMPTY, version=1, partition=0)])

    def ready(self) -> bool:
        """Return whether a read would succeed now."""
        try:
            self._versions([UserId("")])
        except Unavailable:
            return False
        return True

    def close(self) -> None:
        """Let go of the store; the next use connects anew."""
        with self._connecting:
            if self._connection is not None:
                self._connection.rows.close()
                close_store(self._connection.store)
                self._connection = None

    def _versions(self, user_ids: Sequence[UserId]) -> list[Mapping[str, bytes]]:
        with unavailable_on_failure():
            return self._connected().rows.read([entity_key(user_id) for user_id in user_ids], ["version"])

    def _connected(self) -> "_Connection":
        found = self._connection
        if found is not None:
            return found
        with self._connecting:
            if self._connection is None:
                self._connection = _connect(self._settings)
            return self._connection


@dataclass(frozen=True, slots=True)
class _Connection:
    store: "FeatureStore"
    rows: OnlineRows
    ttl_ms: int
    """Zero: states live for ever."""
    kinds: dict[str, Mapping[str, str]]
    """By service: its columns and their kinds."""

    def kinds_of(self, service: str) -> Mapping[str, str]:
        if service not in self.kinds:
            named = columns_of_view(self.store.get_feature_service(service, allow_cache=True))
            self.kinds[service] = {name: COLUMNS[name] for name in named}
        return self.kinds[service]


def _connect(settings: Settings) -> _Connection:
    store = open_store(settings)
    ttl: timedelta = store.get_feature_view(VIEW).ttl or timedelta(0)
    rows = open_rows(settings, project=store.project)
    return _Connection(store, rows, ttl // timedelta(milliseconds=1), {})


def encoded(state: StateOfPerson) -> EncodedState:
    """Return a state as the online stores hold it."""
    columns = state.columns
    values = {name: encode(kind, columns[name]) for name, kind in STATE_COLUMNS.items()}
    values["version"] = encode("int", state.version)
    values["segments"] = encode("strings", state.segments)
    return EncodedState(entity_key(state.user_id), state.version, columns["received_ms"] or 0, values)


def _online_profile(values: Mapping[str, bytes], kinds: Mapping[str, str], *, oldest_ms: int | None) -> OnlineProfile:
    try:
        received_ms = decode("int", values.get("received_ms"))
        stale = oldest_ms is not None and received_ms is not None and received_ms < oldest_ms
        row = decoded(values, {"version": "int", "segments": "strings"} if stale else kinds)
        profile = EMPTY if stale else from_row(row)
    except (ValueError, IndexError) as error:
        raise Unavailable("features: a row is damaged; `bespoke features rebuild` writes it anew") from error
    return OnlineProfile(profile, row["version"], tuple(row["segments"] or ()), stale)
