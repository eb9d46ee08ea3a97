"""The processor: applies the log to profiles, exactly once, and delivers what follows from it.

One batch of one partition is one transaction: profiles, the messageIds that were applied, the committed offset and the
outboxes. Whatever happens in between, the next start reads on from the committed offset. All else (online features,
lake, system events) is delivered from there at least once, and repeating a delivery changes nothing.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from bespoke.clock import DAY_MS, Clock, to_ms
from bespoke.errors import InvalidEvent, Unavailable
from bespoke.events import EVENT_FAILED, RECOMMENDATION_SERVED, Event, EventType, MessageId, UserId
from bespoke.profiles import EMPTY, Profile, fold
from ingestion.lakewriter import LakeWriter
from storage.eventlog.base import EventLog, Message, Record
from storage.profiles import Commit, ProfileStore, StoredProfile

log = logging.getLogger(__name__)

REMEMBER_MS = 30 * DAY_MS
"""How long a repeated messageId is recognised."""
FEATURES_GROUP = "features"
"""The consumer group whose positions say how far online features are."""
PUSH_ROWS = 256
CACHED_PROFILES = 50_000


class FeatureSink(Protocol):
    """Where online features go."""

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Write the state of these people; raises Unavailable where the store cannot be reached."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What one batch came to."""

    events: tuple[tuple[int, Event], ...]
    """The accepted events with their offsets."""
    message_ids: tuple[tuple[str, int], ...]
    failures: tuple[Message, ...]
    skipped: tuple[int, ...]
    """The offsets of repeated and of unreadable messages."""


class Processor:
    """Owns a set of partitions and applies them in turn.

    Args:
        log_: the event log.
        profiles: the profile store, the truth that this writes.
        lake: where events and state rows go, in files.
        partitions: the partitions that this process alone may apply.
        sink: online features; None leaves them to a later process.
        clock: the time of deliveries.
        batch: messages per transaction.
    """

    def __init__(
        self,
        log_: EventLog,
        profiles: ProfileStore,
        lake: LakeWriter,
        *,
        partitions: Sequence[int],
        sink: FeatureSink | None,
        clock: Clock,
        batch: int = 1_000,
    ) -> None:
        self._log, self._profiles, self._lake = log_, profiles, lake
        self._sink, self._clock, self._batch = sink, clock, batch
        self._next = {partition: profiles.committed(partition) for partition in partitions}
        self._cache: dict[UserId, StoredProfile] = {}
        self._forgotten_day = 0
        self.features_behind: str | None = None
        """Why online features are behind, or None."""
        for partition, offset in self._next.items():
            lake.resume(partition, committed=offset)

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset to apply, by partition."""
        return dict(self._next)

    def step(self) -> int:
        """Apply at most one batch of each partition and deliver what follows; return how many messages were read."""
        read = [self._apply(partition) for partition in self._next]
        busy = any(count == self._batch for count in read)
        self._deliver_events()
        if not busy:
            self._deliver_features()
        self._lake.flush_due(now_ms=to_ms(self._clock.now()))
        return sum(read)

    def run(self, until: Callable[[], bool]) -> None:
        """Step until ``until()``; wait where there is nothing to do. Leaves no delivery open that can be made."""
        while not until():
            seen = self.offsets
            if not self.step():
                self._log.wait(seen, timeout_s=0.2)
        self.close()

    def close(self) -> None:
        """Deliver what is open: online features, and the lake's last files."""
        self._deliver_features()
        self._lake.flush()

    def _apply(self, partition: int) -> int:
        first = self._next[partition]
        records = self._log.read(partition, offset=first, limit=self._batch)
        if not records:
            return 0
        applied = self._decode(partition, records)
        changed = self._fold(partition, applied.events)
        next_offset = records[-1].position.offset + 1
        self._profiles.commit(
            Commit(
                partition=partition,
                first_offset=first,
                next_offset=next_offset,
                profiles=changed,
                message_ids=applied.message_ids,
                events=applied.failures,
                skipped=applied.skipped,
            )
        )
        self._next[partition] = next_offset
        self._remember(changed)
        self._forget(max(record.received_ms for record in records))
        self._lake.add(partition, applied.events, next_offset=next_offset)
        return len(records)

    def _decode(self, partition: int, records: Sequence[Record]) -> Applied:
        seen = self._profiles.applied(partition, [record.message_id for record in records])
        events, message_ids, failures, skipped = [], [], [], []
        for record in records:
            offset = record.position.offset
            if record.message_id in seen:
                skipped.append(offset)
                continue
            seen.add(record.message_id)
            message_ids.append((record.message_id, record.received_ms))
            try:
                events.append((offset, Event.from_payload(record.payload)))
            except InvalidEvent as error:
                failures.append(failed(record, error))
                skipped.append(offset)
        return Applied(tuple(events), tuple(message_ids), tuple(failures), tuple(skipped))

    def _fold(self, partition: int, events: Sequence[tuple[int, Event]]) -> list[StoredProfile]:
        folding = [(offset, event) for offset, event in events if changes_profile(event)]
        people = {event.person for _, event in folding}
        missing = [person for person in people if person not in self._cache]
        known = self._profiles.load(missing) if missing else {}
        state: dict[UserId, tuple[Profile, int]] = {}
        for offset, event in folding:
            person = event.person
            if person in state:
                profile = state[person][0]
            else:
                stored = self._cache.get(person) or known.get(person)
                profile = stored.profile if stored else EMPTY
            state[person] = fold(profile, event), offset + 1
        return [
            StoredProfile(user_id=person, profile=profile, version=version, partition=partition)
            for person, (profile, version) in state.items()
        ]

    def _remember(self, changed: Sequence[StoredProfile]) -> None:
        if len(self._cache) + len(changed) > CACHED_PROFILES:
            self._cache.clear()
        self._cache.update((stored.user_id, stored) for stored in changed)

    def _forget(self, newest_ms: int) -> None:
        """Drop, once a day of the data's own time, the messageIds that are older than a repeat may be."""
        day = newest_ms // DAY_MS
        if day > self._forgotten_day:
            self._profiles.forget_messages(newest_ms - REMEMBER_MS)
            self._forgotten_day = day

    def _deliver_features(self) -> None:
        if self._sink is None:
            return
        committed = self.offsets
        try:
            while rows := self._profiles.unpushed(list(committed), limit=PUSH_ROWS):
                self._sink.push(rows)
                self._profiles.mark_pushed([(row.user_id, row.version) for row in rows])
        except Unavailable as error:
            if self.features_behind is None:
                log.error("online features are behind: %s", error)
            self.features_behind = str(error)
            return
        self.features_behind = None
        for partition, offset in committed.items():
            self._log.set_position(FEATURES_GROUP, partition, offset)

    def _deliver_events(self) -> None:
        while pending := self._profiles.pending_events(limit=self._batch):
            self._log.append([message for _, message in pending])
            self._profiles.drop_events([number for number, _ in pending])


def changes_profile(event: Event) -> bool:
    """Return whether the event says something of the person, rather than of what the system did."""
    return event.name not in (RECOMMENDATION_SERVED, EVENT_FAILED)


def failed(record: Record, error: InvalidEvent) -> Message:
    """Return the system event that says that a record of the log cannot be read; the same record gives the same id."""
    where = f"{record.position.partition}.{record.position.offset}"
    event = Event(
        message_id=MessageId("failed-" + blake2b(where.encode(), digest_size=12).hexdigest()),
        type=EventType.TRACK,
        name=EVENT_FAILED,
        user_id="system",
        anonymous_id=None,
        at_ms=record.received_ms,
        received_ms=record.received_ms,
        properties={"position": where, "message_id": record.message_id, "reason": str(error)},
    )
    return Message(
        key=event.person, message_id=event.message_id, received_ms=event.received_ms, payload=event.to_payload()
    )
