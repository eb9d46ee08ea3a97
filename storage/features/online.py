"""The latest state of each person, for serving.

The profile store is the truth; what is online is its served view. Order is kept by versions before the push: the stores
keep whatever arrives last. Nor do they let anything expire: what is older than the view's time to live is held back
here, when it is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bespoke.errors import Unavailable
from bespoke.events import UserId
from bespoke.profiles import EMPTY, STATE_COLUMNS, Profile, from_row, to_row
from storage.features.connecting import OnlineView
from storage.features.encoding import EncodedState, decode, decoded, encode, entity_key
from storage.features.failures import unavailable_on_failure
from storage.profiles import StoredProfile
from storage.settings import Settings

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
        self._view = OnlineView(settings)

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Make ``rows`` the states that readers see, all of them in one transaction or pipeline.

        Raises:
            Unavailable: the store cannot be reached; nothing or a part was written, so push the rows again.
        """
        with unavailable_on_failure():
            # Where a person comes twice, the last one counts.
            latest = {row.user_id: row for row in rows}
            self._view.opened().rows.write([encoded(StateOfPerson.of(row)) for row in latest.values()])

    def push_newer(self, states: Sequence[StateOfPerson]) -> int:
        """Write those of ``states``, each person once, whose version is above the one online; return how many.

        Safe beside others that push: no newer state is ever replaced.

        Raises:
            Unavailable: the store cannot be reached; repeat it with the same states.
        """
        with unavailable_on_failure():
            return self._view.opened().rows.write_newer([encoded(state) for state in states])

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
            view = self._view.opened()
            kinds = view.kinds_of(service)
            found = view.rows.read([entity_key(user_id) for user_id in user_ids], tuple(kinds))
            return _states(user_ids, found, kinds, oldest_ms=view.oldest_ms(at_ms))

    def read_at_once(
        self, user_ids: Sequence[UserId], *, service: str, at_ms: int
    ) -> dict[UserId, OnlineProfile] | None:
        """Return the same as :meth:`read` where that waits for nobody but the disk; else None.

        Raises:
            Unavailable: the store cannot be read.
        """
        view = self._view.now
        if view is None:
            return None
        with unavailable_on_failure():
            kinds = view.kinds_of(service)
            found = view.rows.read_at_once([entity_key(user_id) for user_id in user_ids], tuple(kinds))
            return None if found is None else _states(user_ids, found, kinds, oldest_ms=view.oldest_ms(at_ms))

    def columns(self, service: str) -> frozenset[str]:
        """Return the columns that a feature service names.

        Raises:
            Unavailable: the definitions were never applied.
        """
        with unavailable_on_failure():
            return frozenset(self._view.opened().kinds_of(service))

    def oldest_ms(self, at_ms: int) -> int | None:
        """Return when the newest event of a state has to be received for it to be used at ``at_ms``; None: ever.

        Raises:
            Unavailable: the definitions were never applied.
        """
        with unavailable_on_failure():
            return self._view.opened().oldest_ms(at_ms)

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
        self._view.close()

    def _versions(self, user_ids: Sequence[UserId]) -> list[Mapping[str, bytes]]:
        with unavailable_on_failure():
            return self._view.opened().rows.read([entity_key(user_id) for user_id in user_ids], ["version"])


def encoded(state: StateOfPerson) -> EncodedState:
    """Return a state as the online stores hold it."""
    columns = state.columns
    values = {name: encode(kind, columns[name]) for name, kind in STATE_COLUMNS.items()}
    values["version"] = encode("int", state.version)
    values["segments"] = encode("strings", state.segments)
    return EncodedState(entity_key(state.user_id), state.version, columns["received_ms"] or 0, values)


def _states(
    user_ids: Sequence[UserId],
    found: Sequence[Mapping[str, bytes]],
    kinds: Mapping[str, str],
    *,
    oldest_ms: int | None,
) -> dict[UserId, OnlineProfile]:
    """Return what the rows of people say, without those who have none."""
    # What Feast's stores write of somebody without a state has no version.
    people = [(id, values) for id, values in zip(user_ids, found, strict=True) if values.get("version")]
    return {user_id: _online_profile(values, kinds, oldest_ms=oldest_ms) for user_id, values in people}


def _online_profile(values: Mapping[str, bytes], kinds: Mapping[str, str], *, oldest_ms: int | None) -> OnlineProfile:
    try:
        received_ms = decode("int", values.get("received_ms"))
        stale = oldest_ms is not None and received_ms is not None and received_ms < oldest_ms
        row = decoded(values, {"version": "int", "segments": "strings"} if stale else kinds)
        profile = EMPTY if stale else from_row(row)
    except (ValueError, IndexError) as error:
        raise Unavailable("features: a row is damaged; `bespoke features rebuild` writes it anew") from error
    return OnlineProfile(profile, row["version"], tuple(row["segments"] or ()), stale)
