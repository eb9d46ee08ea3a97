"""The segments' part of the profile store: who is in which, whose may change by time alone, and how far a review is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Row, func, select, true

from bespoke.events import UserId
from bespoke.profiles import Profile
from storage.profile_tables import decode_state, memberships, profiles, segment_reviews
from storage.sql import reading, upsert, writing


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """One person's profile as of a message."""

    user_id: UserId
    profile: Profile
    version: int
    """The offset after the last message that was folded in; it only grows."""
    partition: int
    segments: tuple[str, ...] = ()
    """The segments that the person is in, sorted."""
    due_ms: int | None = None
    """When time alone may change them; None: never."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Somebody who is in a segment, or was."""

    user_id: UserId
    segment: str
    partition: int
    inside: bool
    ordinal: int
    """The number of the last transition, counted from 1."""
    since_ms: int
    """When that was."""


class SegmentRows:
    """Reads and writes what the store keeps of segments."""

    _engine: Engine

    def memberships_of(self, user_ids: Iterable[UserId]) -> dict[tuple[UserId, str], Membership]:
        """Return what is kept of these people, by person and segment."""
        query = select(memberships).where(memberships.c.user_id.in_(list(user_ids)))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return {(UserId(row.user_id), row.segment): _membership(row) for row in rows}

    def members(self, segment: str, *, after: str = "", limit: int = 100) -> list[Membership]:
        """Return at most ``limit`` people who are in ``segment``, by id, those beyond ``after``."""
        columns = memberships.c
        query = (
            select(memberships)
            .where(columns.segment == segment, columns.inside == true(), columns.user_id > after)
            .order_by(columns.user_id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_membership(row) for row in connection.execute(query)]

    def member_ids(self, segment: str) -> list[UserId]:
        """Return everybody who is in ``segment``, by id."""
        columns = memberships.c
        query = select(columns.user_id).where(columns.segment == segment, columns.inside == true())
        with reading(self._engine) as connection:
            return list(connection.scalars(query.order_by(columns.user_id)))

    def segment_sizes(self) -> dict[str, int]:
        """Return how many people are in each segment; empty ones are absent."""
        columns = memberships.c
        query = select(columns.segment, func.count()).where(columns.inside == true()).group_by(columns.segment)
        with reading(self._engine) as connection:
            return {segment: count for segment, count in connection.execute(query)}

    def due(self, of_partitions: Iterable[int], *, now_ms: int, limit: int) -> list[StoredProfile]:
        """Return at most ``limit`` people whose segments may have changed by ``now_ms``, the longest waiting first."""
        query = (
            SELECT_PROFILES.where(profiles.c.due_ms <= now_ms, profiles.c.partition.in_(list(of_partitions)))
            .order_by(profiles.c.due_ms)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [stored(row) for row in rows]

    def next_due_ms(self, of_partitions: Iterable[int]) -> int | None:
        """Return when the next person is due; None: nobody is."""
        columns = profiles.c
        query = select(func.min(columns.due_ms)).where(
            columns.due_ms.is_not(None), columns.partition.in_(list(of_partitions))
        )
        with reading(self._engine) as connection:
            found: int | None = connection.scalar(query)
        return found

    def everybody(self, partition: int, *, after: str, limit: int) -> list[StoredProfile]:
        """Return at most ``limit`` people of a partition, by id, those beyond ``after``."""
        query = (
            SELECT_PROFILES.where(profiles.c.partition == partition, profiles.c.user_id > after)
            .order_by(profiles.c.user_id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [stored(row) for row in rows]

    def review(self, partition: int, *, fingerprint: str) -> str | None:
        """Return up to which id everybody was held against these definitions; None where all were.

        Definitions that were never reviewed begin with "", before everybody.
        """
        columns = segment_reviews.c
        with reading(self._engine) as connection:
            row = connection.execute(select(segment_reviews).where(columns.partition == partition)).one_or_none()
        return row.reached if row is not None and row.fingerprint == fingerprint else ""

    def move_review(self, partition: int, *, fingerprint: str, reached: str | None) -> None:
        """Remember how far the review of these definitions is; None: everybody was looked at."""
        statement = upsert(self._engine, segment_reviews, update=["fingerprint", "reached"])
        values: Mapping[str, Any] = {"partition": partition, "fingerprint": fingerprint, "reached": reached}
        with writing(self._engine, durable=False) as connection:
            connection.execute(statement, values)


SELECT_PROFILES = select(
    profiles.c.user_id, profiles.c.state, profiles.c.version, profiles.c.partition, profiles.c.due_ms
)


def stored(row: Row[*tuple[Any, ...]]) -> StoredProfile:
    """Return a row of :data:`SELECT_PROFILES`."""
    profile, segments = decode_state(row.state)
    return StoredProfile(UserId(row.user_id), profile, row.version, row.partition, segments, row.due_ms)


def _membership(row: Row[*tuple[Any, ...]]) -> Membership:
    return Membership(UserId(row.user_id), row.segment, row.partition, row.inside, row.ordinal, row.since_ms)
