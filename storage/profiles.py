"""The profile store: the truth about every person, how far the log has been applied, and what waits to be passed on.

One transaction takes everything that a batch of messages caused: profiles, the messageIds applied, the committed
offset, and the outboxes from which the rest follows at least once (online features, state rows for the lake, system
events).

Commits are synced to disk before they return, although the log could be replayed. What follows from a commit goes ahead
at once: features are served, lake files are written under offset ranges, system events are in the log. If a power cut
took the commit back, those would stand for offsets that are not committed, and a replay with other batch limits need
not repeat the same system events. Only :meth:`ProfileStore.mark_pushed` goes without a sync: a lost mark repeats a
push.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, tuple_, update

from bespoke.events import UserId
from bespoke.items import ItemStates
from storage.eventlog.base import Message
from storage.item_states import ItemRows, StoredItem
from storage.lake_tables import StateRow
from storage.profile_segments import SELECT_PROFILES, Membership, SegmentRows, StoredProfile, stored
from storage.profile_tables import (
    applied_messages,
    encode_state,
    event_outbox,
    item_states,
    memberships,
    metadata,
    partitions,
    profiles,
    skipped_messages,
    state_outbox,
    unpack,
)
from storage.sql import Superseded, open_engine, reading, upsert, writing
from storage.sqlite import BUSY_TIMEOUT_S

__all__ = ["Commit", "Membership", "PendingStates", "ProfileStore", "StoredItem", "StoredProfile"]

_IDS_PER_QUERY = 10_000
"""SQLite takes 32,766 values in a statement."""
_FORGET_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Commit:
    """What the messages ``first_offset <= offset < next_offset`` of one partition caused."""

    partition: int
    first_offset: int
    next_offset: int
    profiles: Sequence[StoredProfile]
    """The changed profiles, each once."""
    message_ids: Sequence[tuple[str, int]]
    """The messageIds applied, with the time each was received (ms)."""
    events: Sequence[Message]
    """System events to append to the log."""
    skipped: Sequence[int] = ()
    """Offsets of the messages that caused nothing: repeated ones, and such that cannot be read."""
    moved: Sequence[StoredProfile] = ()
    """People whose segments changed without a message; their states in the lake stay as they are."""
    memberships: Sequence[Membership] = ()
    """The memberships that changed, each once."""


class PendingStates(NamedTuple):
    """The state rows of one partition that wait for the lake: those of ``first_offset <= offset < next_offset``."""

    rows: int
    first_offset: int
    next_offset: int


class ProfileStore(SegmentRows, ItemRows):
    """Profiles in an SQL database. Safe to use from several threads; each partition has one committing process."""

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the store, creating its tables where they are missing.

        Args:
            url: an SQLAlchemy address such as ``sqlite:///var/profiles.db``.
            busy_timeout_s: how long a write waits for a writer in another process.

        Raises:
            ConfigError: no engine is known for such an address.
            Unavailable: the database cannot be reached.
        """
        self._engine = open_engine(url, metadata, busy_timeout_s=busy_timeout_s)
        self._save_profile = upsert(
            self._engine, profiles, update=["partition", "version", "pushed_version", "due_ms", "state"]
        )
        self._save_membership = upsert(self._engine, memberships, update=["partition", "inside", "ordinal", "since_ms"])
        self._save_message = upsert(self._engine, applied_messages, update=["received_ms"])
        self._save_state = upsert(self._engine, state_outbox, update=["state"])
        self._save_partition = upsert(self._engine, partitions, update=[])

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def committed(self, partition: int) -> int:
        """Return the offset of the next message to apply."""
        with reading(self._engine) as connection:
            found = connection.scalar(select(partitions.c.committed).where(partitions.c.partition == partition))
        return int(found or 0)

    def load(self, user_ids: Iterable[UserId]) -> dict[UserId, StoredProfile]:
        """Return the stored profiles among ``user_ids``; who has none is absent."""
        with reading(self._engine) as connection:
            rows = [
                row
                for some in _chunks(user_ids)
                for row in connection.execute(SELECT_PROFILES.where(profiles.c.user_id.in_(some)))
            ]
        return {row.user_id: stored(row) for row in rows}

    def applied(self, partition: int, message_ids: Iterable[str]) -> set[str]:
        """Return those of ``message_ids`` that were applied before."""
        columns = applied_messages.c
        known = select(columns.message_id).where(columns.partition == partition)
        with reading(self._engine) as connection:
            return {
                message_id
                for some in _chunks(message_ids)
                for message_id in connection.scalars(known.where(columns.message_id.in_(some)))
            }

    def commit(self, batch: Commit) -> None:
        """Store everything that a batch caused, in one durable transaction.

        Raises:
            Superseded: the partition's committed offset is not ``batch.first_offset``; nothing was stored.
            Unavailable: the database is locked past the timeout or cannot be written; nothing was stored.
        """
        # Encoded before the transaction: it is most of the work, and would keep other partitions' commits waiting.
        rows, moved = list(map(_row, batch.profiles)), list(map(_row, batch.moved))
        messages = [
            {"partition": batch.partition, "message_id": message_id, "received_ms": received_ms}
            for message_id, received_ms in batch.message_ids
        ]
        with writing(self._engine) as connection:
            self._move_committed(connection, batch)
            if rows or moved:
                connection.execute(self._save_profile, [*rows, *moved])
            if rows:
                connection.execute(self._save_state, rows)
            if batch.memberships:
                connection.execute(self._save_membership, [asdict(membership) for membership in batch.memberships])
            if messages:
                connection.execute(self._save_message, messages)
            if batch.skipped:
                skipped = [{"partition": batch.partition, "offset": offset} for offset in batch.skipped]
                connection.execute(skipped_messages.insert(), skipped)
            if batch.events:
                connection.execute(event_outbox.insert(), [_event_row(message) for message in batch.events])

    def _move_committed(self, connection: Connection, batch: Commit) -> None:
        connection.execute(
            self._save_partition, {"partition": batch.partition, "committed": 0, "states_from": 0, "events_from": 0}
        )
        moved = connection.execute(
            update(partitions)
            .where(partitions.c.partition == batch.partition, partitions.c.committed == batch.first_offset)
            .values(committed=batch.next_offset)
        )
        if moved.rowcount != 1:
            found = connection.scalar(select(partitions.c.committed).where(partitions.c.partition == batch.partition))
            raise Superseded(
                f"partition {batch.partition}: got a batch from offset {batch.first_offset}, but {found} is next; "
                "another process applies this partition: stop one of the two and go on from the committed offset"
            )

    def unpushed(self, of_partitions: Iterable[int], limit: int) -> list[StoredProfile]:
        """Return at most ``limit`` profiles whose newest version was not yet pushed, the longest waiting first."""
        query = (
            SELECT_PROFILES.where(profiles.c.pushed_version < profiles.c.version)
            .where(profiles.c.partition.in_(list(of_partitions)))
            .order_by(profiles.c.version)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [stored(row) for row in rows]

    def mark_pushed(self, versions: Iterable[tuple[UserId, int]]) -> None:
        """Remember the pushed version of each person; a later version that came meanwhile still waits."""
        marks = [{"of_user": user_id, "pushed": version} for user_id, version in versions]
        if marks:
            with writing(self._engine, durable=False) as connection:
                connection.execute(_MARK_PUSHED, marks)

    def forget_pushed(self) -> None:
        """Have every profile and item wait for its push again: the online store has lost what it held."""
        with writing(self._engine) as connection:
            connection.execute(update(profiles).values(pushed_version=0))
            connection.execute(update(item_states).values(pushed_version=0))

    def states_pending(self, partition: int) -> PendingStates:
        """Return how many state rows wait for the lake, and the offsets that they cover."""
        with reading(self._engine) as connection:
            count = connection.scalar(select(func.count()).where(state_outbox.c.partition == partition))
            row = connection.execute(select(partitions).where(partitions.c.partition == partition)).one_or_none()
        return PendingStates(count or 0, row.states_from, row.committed) if row else PendingStates(0, 0, 0)

    def take_states(self, partition: int, up_to_offset: int) -> list[StateRow]:
        """Return the waiting state rows of messages before ``up_to_offset``, in order; they stay until dropped."""
        columns = state_outbox.c
        query = (
            select(columns.user_id, columns.version, columns.state)
            .where(columns.partition == partition, columns.version <= up_to_offset)
            .order_by(columns.version, columns.user_id)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [StateRow(row.user_id, row.version, unpack(row.state)) for row in rows]

    def drop_states(self, partition: int, up_to_offset: int) -> None:
        """Remove the state rows of messages before ``up_to_offset``: the lake has them."""
        columns = state_outbox.c
        with writing(self._engine) as connection:
            connection.execute(
                delete(state_outbox).where(columns.partition == partition, columns.version <= up_to_offset)
            )
            connection.execute(
                update(partitions)
                .where(partitions.c.partition == partition, partitions.c.states_from < up_to_offset)
                .values(states_from=up_to_offset)
            )

    def skipped(self, partition: int, first_offset: int, next_offset: int) -> set[int]:
        """Return the offsets within ``first_offset <= offset < next_offset`` whose messages caused nothing."""
        columns = skipped_messages.c
        inside = (columns.partition == partition) & columns.offset.between(first_offset, next_offset - 1)
        with reading(self._engine) as connection:
            return set(connection.scalars(select(columns.offset).where(inside)))

    def events_from(self, partition: int) -> int:
        """Return the offset of the first message whose events are not known to be in the lake."""
        with reading(self._engine) as connection:
            found = connection.scalar(select(partitions.c.events_from).where(partitions.c.partition == partition))
        return int(found or 0)

    def move_events_from(
        self, partition: int, offset: int, first: int | None = None, items: ItemStates | None = None
    ) -> None:
        """Remember that the lake has the events of all messages before ``offset``; which were skipped is forgotten.

        Args:
            partition: of the event log.
            offset: the first message whose events are not in the lake.
            first: where the lake was before; None where that does not matter.
            items: what the events since ``first`` did with items, counted in the same transaction.

        Raises:
            Superseded: the lake is not at ``first``; nothing was stored.
        """
        # Read and merged before the transaction: nobody else may count this partition's items, or the move is refused.
        rows = self._counted(partition, offset, items) if items is not None and len(items.ids) else []
        columns, here = skipped_messages.c, partitions.c.partition == partition
        if first is not None:
            here &= partitions.c.events_from == first
        with writing(self._engine) as connection:
            moved = connection.execute(update(partitions).where(here).values(events_from=offset))
            if first is not None and moved.rowcount != 1:
                raise Superseded(
                    f"partition {partition}: events from {first} on were taken to the lake, which has gone on from "
                    "elsewhere; another process applies this partition: stop one of the two"
                )
            if rows:
                self._save_items(connection, rows)
            connection.execute(
                delete(skipped_messages).where((columns.partition == partition) & (columns.offset < offset))
            )

    def pending_events(self, limit: int) -> list[tuple[int, Message]]:
        """Return at most ``limit`` system events that wait for the log, oldest first, each with its outbox id."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(event_outbox).order_by(event_outbox.c.id).limit(limit)).all()
        return [(row.id, Message(row.key, row.message_id, row.received_ms, row.payload)) for row in rows]

    def drop_events(self, ids: Iterable[int]) -> None:
        """Remove system events by their outbox ids: the log has them."""
        dropped = [{"of_id": id} for id in ids]
        if dropped:
            with writing(self._engine) as connection:
                connection.execute(delete(event_outbox).where(event_outbox.c.id == bindparam("of_id")), dropped)

    def forget_messages(self, before_ms: int) -> int:
        """Forget the messageIds received before ``before_ms``; return how many."""
        columns = applied_messages.c
        key = tuple_(columns.partition, columns.message_id)
        old = select(columns.partition, columns.message_id).where(columns.received_ms < before_ms)
        old = old.limit(_FORGET_AT_ONCE)
        forgotten = 0
        while True:
            # Some at a time, so that commits get their turn in between.
            with writing(self._engine, durable=False) as connection:
                count = connection.execute(delete(applied_messages).where(key.in_(old))).rowcount
            forgotten += count
            if count < _FORGET_AT_ONCE:
                return forgotten


_MARK_PUSHED = (
    update(profiles)
    .where(profiles.c.user_id == bindparam("of_user"), profiles.c.pushed_version < bindparam("pushed"))
    .values(pushed_version=bindparam("pushed"))
)


def _row(one: StoredProfile) -> dict[str, Any]:
    return {
        "user_id": one.user_id,
        "partition": one.partition,
        "version": one.version,
        # Whatever was pushed of this version, the segments may differ from it.
        "pushed_version": 0,
        "due_ms": one.due_ms,
        "state": encode_state(one.profile, one.segments),
    }


def _event_row(message: Message) -> dict[str, Any]:
    return {
        "key": message.key,
        "message_id": message.message_id,
        "received_ms": message.received_ms,
        "payload": message.payload,
    }


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    left = iter(ids)
    while some := list(islice(left, _IDS_PER_QUERY)):
        yield some
