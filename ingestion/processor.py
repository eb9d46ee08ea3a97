"""The processor: applies the log to profiles, exactly once, and delivers what follows from it.

One batch of one partition is one transaction: profiles, the messageIds that were applied, the committed offset and the
outboxes. Whatever happens in between, the next start reads on from the committed offset. All else (online features,
lake, system events) is delivered from there at least once, and repeating a delivery changes nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from bespoke.clock import DAY_MS, Clock, to_ms
from bespoke.errors import ConfigError, InvalidEvent, Unavailable
from bespoke.events import EVENT_FAILED, RECOMMENDATION_SERVED, Event, EventType, MessageId, UserId
from bespoke.profiles import EMPTY, Profile, fold
from ingestion.cache import ProfileCache
from ingestion.features import FeatureDelivery, FeatureSink
from ingestion.lakewriter import LakeWriter
from storage.eventlog.base import EventLog, Message, Record
from storage.profiles import Commit, ProfileStore, StoredProfile

log = logging.getLogger(__name__)

REMEMBER_MS = 30 * DAY_MS
"""How long a repeated messageId is recognised."""
RETRY_S = 1.0
"""How long to wait for a store that cannot be reached."""
CLOSE_PUSH_S = 5.0
"""How long the end of a process is held up for online features; the next one goes on."""


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
        self._cache = ProfileCache()
        self._features = None if sink is None else FeatureDelivery(log_, profiles, sink, list(self._next))
        self._forgotten_day = 0
        self.waits_for: str | None = None
        """The store that cannot be reached now, or None."""
        for partition, offset in self._next.items():
            _check_log_reaches(log_, partition, offset)
            lake.resume(partition, committed=offset)

    @property
    def offsets(self) -> dict[int, int]:
        """Return the next offset to apply, by partition."""
        return dict(self._next)

    @property
    def features_behind(self) -> str | None:
        """Return why online features are behind, or None."""
        return None if self._features is None else self._features.behind

    def step(self) -> int:
        """Apply at most one batch of each partition and deliver what follows; return how many messages were read.

        Raises:
            Unavailable: a store cannot be reached; what was applied stays applied, so step again later.
            Superseded: another process applies these partitions.
        """
        now_ms = to_ms(self._clock.now())
        read = sum(self._apply(partition, now_ms=now_ms) for partition in self._next)
        self._deliver_events()
        if self._features is not None:
            self._features.deliver(self.offsets)
        self._lake.flush_due(now_ms=now_ms)
        self._forget(now_ms)
        if not read:
            self._lake.compact_due(now_ms=now_ms)
        return read

    def run(self, until: Callable[[], bool]) -> None:
        """Step until ``until()``; wait where there is nothing to do, and for stores that cannot be reached."""
        while not until():
            seen = self.offsets
            try:
                if not self.step():
                    self._log.wait(seen, timeout_s=0.2)
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
        applied = self._decode(partition, records, now_ms=now_ms)
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
        self._lake.add(partition, applied.events, next_offset=next_offset)
        self._cache.put(changed)
        return len(records)

    def _decode(self, partition: int, records: Sequence[Record], *, now_ms: int) -> Applied:
        seen = self._profiles.applied(partition, [record.message_id for record in records])
        events, message_ids, failures, skipped = [], [], [], []
        for record in records:
            offset = record.position.offset
            if record.message_id in seen:
                skipped.append(offset)
                continue
            seen.add(record.message_id)
            # Replayed history is received in its own time; a repeat of it comes soon after it was applied.
            message_ids.append((record.message_id, max(record.received_ms, now_ms)))
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

    def _forget(self, now_ms: int) -> None:
        """Drop, once a day, the messageIds that are older than a repeat may be."""
        day = now_ms // DAY_MS
        if day > self._forgotten_day:
            self._profiles.forget_messages(now_ms - REMEMBER_MS)
            self._forgotten_day = day

    def _deliver_events(self) -> None:
        while pending := self._profiles.pending_events(limit=self._batch):
            self._log.append([message for _, message in pending])
            self._profiles.drop_events([number for number, _ in pending])


def _check_log_reaches(log_: EventLog, partition: int, offset: int) -> None:
    """Raise ConfigError where the log ends before what was applied of it: then it is not the log that was applied."""
    if (end := log_.end(partition)) < offset:
        raise ConfigError(
            f"the profile store has applied partition {partition} up to {offset}, but the event log ends at {end}; "
            "they do not belong together: bring the log back, or start anew without the profile store and the lake"
        )


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
