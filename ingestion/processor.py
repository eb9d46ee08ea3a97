"""The processor: applies the log to profiles, exactly once, and delivers what follows from it.

One batch of one partition is one transaction: profiles, the messageIds that were applied, the committed offset and the
outboxes. Whatever happens in between, the next start reads on from the committed offset. All else (online features,
lake, system events) is delivered from there at least once, and repeating a delivery changes nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from bespoke.clock import DAY_MS, SECOND_MS, Clock, to_ms
from bespoke.errors import ConfigError, InvalidEvent, Unavailable
from bespoke.events import EVENT_FAILED, Event, EventType, MessageId, UserId
from bespoke.profiles import EMPTY, changes_profile, fold
from ingestion.cache import ProfileCache
from ingestion.features import FeatureDelivery, FeatureSink
from ingestion.intake import Intake
from ingestion.lakewriter import LakeWriter
from ingestion.segment_desk import SegmentDesk
from ingestion.segments import Reason, Settled
from storage.eventlog.base import EventLog, Message, Record
from storage.profiles import Commit, ProfileStore, StoredProfile

log = logging.getLogger(__name__)

REMEMBER_MS = 30 * DAY_MS
"""How long a repeated messageId is recognised."""
RETRY_S = 1.0
"""How long to wait for a store that cannot be reached."""
CLOSE_PUSH_S = 5.0
"""How long the end of a process is held up for online features; the next one goes on."""
APPEND_AT_ONCE = 200
"""System events in one append: so many may come twice after a crash."""
UNKNOWN_MS = 0
"""The time of a replay before its first message."""
IDLE_S = 0.2
"""How long the log is waited for at once."""


@dataclass(slots=True)
class Applied:
    """What one batch comes to."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    """The accepted events with their offsets."""
    message_ids: list[tuple[str, int]] = field(default_factory=list)
    failures: list[Message] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)
    """The offsets of messages that cause nothing: repeated, unreadable, of bots, near-duplicates."""
    changed: dict[UserId, StoredProfile] = field(default_factory=dict)
    happened_ms: dict[UserId, int] = field(default_factory=dict)
    """When the earliest event of each changed person happened."""


class Processor:
    """Owns a set of partitions and applies them in turn.

    Args:
        log_: the event log.
        profiles: the profile store, the truth that this writes.
        lake: where events and state rows go, in files.
        partitions: the partitions that this process alone may apply.
        sink: online features; None leaves them to a later process.
        clock: the time of deliveries, and at which segments are looked at.
        batch: messages per transaction.
        intake: what becomes of events before they are folded.
        segments: who is in which; None leaves them to a later process.
        data_time: take the time from the messages, for replays of the past.
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
        intake: Intake | None = None,
        segments: SegmentDesk | None = None,
        data_time: bool = False,
    ) -> None:
        self._log, self._profiles, self._lake = log_, profiles, lake
        self._sink, self._clock, self._batch = sink, clock, batch
        self._intake, self._segments = intake or Intake(), segments
        self._data_ms: int | None = UNKNOWN_MS if data_time else None
        self._next = {partition: profiles.committed(partition) for partition in partitions}
        self._cache = ProfileCache()
        self._features = None if sink is None else FeatureDelivery(log_, profiles, sink, list(self._next))
        self._forgotten_day = 0
        self.waits_for: str | None = None
        """The store that cannot be reached now, or None."""
        for partition, offset in self._next.items():
            _check_log_reaches(log_, partition, offset)
            lake.resume(partition, committed=offset)
        if self._features is not None:
            # Where nothing waits from before, what comes is pushed from memory from the first message on.
            self._features.deliver(self.offsets, for_s=0.0)

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset to apply, by partition."""
        return dict(self._next)

    @property
    def features_behind(self) -> str | None:
        """Return why online features are behind, or None."""
        return None if self._features is None else self._features.behind

    @property
    def features_complete(self) -> bool:
        """Return whether every state that was committed is online, or there is no online store to push to."""
        return self._features is None or self._features.complete

    def step(self) -> int:
        """Apply at most one batch of each partition and deliver what follows; return how many messages were read.

        Raises:
            Unavailable: a store cannot be reached; what was applied stays applied, so step again later.
            Superseded: another process applies these partitions.
        """
        now_ms = to_ms(self._clock.now())
        if self._segments is not None:
            self._segments.refresh(now_ms=now_ms)
        looked = self._look(self._moment(now_ms))
        read = sum(self._apply(partition, now_ms=now_ms) for partition in self._next)
        self._deliver_events()
        if self._features is not None:
            self._features.deliver(self.offsets)
        self._lake.flush_due(now_ms=now_ms)
        self._forget(now_ms)
        if not read:
            self._lake.compact_due(now_ms=now_ms)
        return read + looked

    def run(self, until: Callable[[], bool]) -> None:
        """Step until ``until()``; wait where there is nothing to do, and for stores that cannot be reached."""
        while not until():
            seen = self.offsets
            try:
                if not self.step():
                    self._log.wait(seen, timeout_s=self._idle_s())
                self.waits_for = None
            except Unavailable as error:
                if self.waits_for is None:
                    log.error("the processor waits: %s", error)
                self.waits_for = str(error)
                time.sleep(RETRY_S)
        self.close()

    def close(self) -> None:
        """Deliver what is open: online features for a while, and the lake's last files."""
        if self._features is not None:
            self._features.deliver(self.offsets, for_s=CLOSE_PUSH_S)
        self._lake.flush()

    def _apply(self, partition: int, *, now_ms: int) -> int:
        first = self._next[partition]
        records = self._log.read(partition, offset=first, limit=self._batch)
        if not records:
            return 0
        applied = Applied()
        events = self._decode(partition, records, applied, now_ms=now_ms)
        self._fold(partition, events, applied)
        settled = self._settle(applied, now_ms=now_ms)
        next_offset = records[-1].position.offset + 1
        self._profiles.commit(
            Commit(
                partition=partition,
                first_offset=first,
                next_offset=next_offset,
                profiles=settled.profiles,
                message_ids=applied.message_ids,
                events=[*applied.failures, *settled.transitions],
                skipped=applied.skipped,
                memberships=settled.memberships,
            )
        )
        self._next[partition] = next_offset
        self._lake.add(partition, applied.events, next_offset=next_offset, states=len(settled.profiles))
        self._keep(settled.profiles)
        return len(records)

    def _decode(
        self, partition: int, records: Sequence[Record], applied: Applied, *, now_ms: int
    ) -> list[tuple[int, Event]]:
        """Return the events that were not applied before, enriched, with their offsets."""
        seen = self._profiles.applied(partition, [record.message_id for record in records])
        events = []
        for record in records:
            offset = record.position.offset
            if record.message_id in seen:
                applied.skipped.append(offset)
                self._intake.repeated(record)
                continue
            seen.add(record.message_id)
            # Replayed history is received in its own time; a repeat of it comes soon after it was applied.
            applied.message_ids.append((record.message_id, max(record.received_ms, now_ms)))
            if self._data_ms is not None:
                self._data_ms = max(self._data_ms, record.received_ms)
            try:
                events.append((offset, self._intake.enrich(Event.from_payload(record.payload))))
            except InvalidEvent as error:
                applied.failures.append(failed(record, error))
                applied.skipped.append(offset)
        return events

    def _fold(self, partition: int, events: Sequence[tuple[int, Event]], applied: Applied) -> None:
        people = {event.person for _, event in events if changes_profile(event)}
        missing = [person for person in people if person not in self._cache]
        known = self._profiles.load(missing) if missing else {}
        for offset, event in events:
            if not changes_profile(event):
                applied.events.append((offset, event))
                continue
            person = event.person
            before = applied.changed.get(person) or self._cache.get(person) or known.get(person)
            profile = EMPTY if before is None else before.profile
            if self._intake.leaves_out(event, profile):
                applied.skipped.append(offset)
                continue
            applied.events.append((offset, event))
            segments = () if before is None else before.segments
            due_ms = None if before is None else before.due_ms
            applied.changed[person] = StoredProfile(
                person, fold(profile, event), offset + 1, partition, segments, due_ms
            )
            applied.happened_ms[person] = min(applied.happened_ms.get(person, event.at_ms), event.at_ms)

    def _settle(self, applied: Applied, *, now_ms: int) -> Settled:
        people = tuple(applied.changed.values())
        if self._segments is None or not people:
            return Settled(people)
        at_ms = self._moment(now_ms)
        return self._segments.settle(people, at_ms=at_ms, reason=Reason.EVENT, happened_ms=applied.happened_ms)

    def _look(self, at_ms: int) -> int:
        """Look at people whose segments may have changed without a message; return how many were looked at."""
        if self._segments is None or at_ms == UNKNOWN_MS:
            return 0
        looked = 0
        for waiting in self._segments.waiting(now_ms=at_ms):
            settled = self._segments.settle(waiting.people, at_ms=at_ms, reason=waiting.reason)
            moved = [after for before, after in zip(waiting.people, settled.profiles, strict=True) if before != after]
            if moved:
                here = self._next[waiting.partition]
                self._profiles.commit(
                    Commit(
                        partition=waiting.partition,
                        first_offset=here,
                        next_offset=here,
                        profiles=(),
                        message_ids=(),
                        events=settled.transitions,
                        moved=moved,
                        memberships=settled.memberships,
                    )
                )
                self._keep(moved)
            self._segments.reviewed(waiting)
            looked += len(waiting.people)
        return looked

    def _keep(self, committed: Sequence[StoredProfile]) -> None:
        self._cache.put(committed)
        if self._features is not None:
            self._features.offer(committed)

    def _moment(self, now_ms: int) -> int:
        """Return the time at which segments are looked at: now, or that of the newest message of a replay."""
        return now_ms if self._data_ms is None else self._data_ms

    def _idle_s(self) -> float:
        """Return how long the log may be waited for: until somebody has to be looked at, and not for long."""
        now_ms = self._moment(to_ms(self._clock.now()))
        if self._segments is None or now_ms == UNKNOWN_MS:
            return IDLE_S
        next_ms = self._segments.next_look_ms(now_ms=now_ms)
        return IDLE_S if next_ms is None else min(IDLE_S, max(next_ms - now_ms, 0) / SECOND_MS)

    def _forget(self, now_ms: int) -> None:
        """Drop, once a day, the messageIds that are older than a repeat may be."""
        day = now_ms // DAY_MS
        if day > self._forgotten_day:
            self._profiles.forget_messages(now_ms - REMEMBER_MS)
            self._forgotten_day = day

    def _deliver_events(self) -> None:
        while pending := self._profiles.pending_events(limit=APPEND_AT_ONCE):
            self._log.append([message for _, message in pending])
            self._profiles.drop_events([number for number, _ in pending])


def _check_log_reaches(log_: EventLog, partition: int, offset: int) -> None:
    """Raise ConfigError where the log ends before what was applied of it: then it is not the log that was applied."""
    if (end := log_.end(partition)) < offset:
        raise ConfigError(
            f"the profile store has applied partition {partition} up to {offset}, but the event log ends at {end}; "
            "they do not belong together: bring the log back, or start anew without the profile store and the lake"
        )


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
