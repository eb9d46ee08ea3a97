"""The lake writer: gathers applied events and state rows, writes them as files of an offset range, counts items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bespoke.clock import HOUR_MS, SECOND_MS, from_ms
from bespoke.events import Event
from ingestion.item_counts import counted
from storage.eventlog.base import EventLog
from storage.lake import Kind, Lake
from storage.profiles import ProfileStore

FLUSH_EVENTS = 20_000
FLUSH_STATES = 5_000
FLUSH_AGE_MS = 10 * SECOND_MS
COMPACT_EVERY_MS = HOUR_MS
RESUME_BATCH = 2_000


@dataclass(slots=True)
class _Open:
    """What of one partition is applied and not yet in a file."""

    first: int
    next: int
    events: list[Event] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    since_ms: int | None = None


class LakeWriter:
    """Writes one process's partitions.

    Events wait in memory and are read again from the log after a crash; state rows wait in the profile store's outbox.
    A file that was written just before a crash, and not yet counted, is discarded at the next start and written anew.
    What the events did with items is counted in the transaction that says that they are in the lake, so exactly once.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        profiles: ProfileStore,
        *,
        enrich: Callable[[Event], Event] = lambda event: event,
    ) -> None:
        self._lake, self._log, self._profiles, self._enrich = lake, log, profiles, enrich
        self._open: dict[int, _Open] = {}
        self._compacted_ms = 0

    def resume(self, partition: int, *, committed: int) -> None:
        """Take up ``partition`` where the last process left it: discard uncounted files, gather anew what they held."""
        position = self._profiles.events_from(partition)
        self._lake.discard_from("events", partition, position)
        self._lake.discard_from("states", partition, self._profiles.states_pending(partition).first_offset)
        self._open[partition] = _Open(first=position, next=position)
        while position < committed:
            position = self._gather(partition, position, committed)

    def add(self, partition: int, events: Sequence[tuple[int, Event]], *, next_offset: int) -> None:
        """Take the applied events of one batch, each with its offset; the batch ends before ``next_offset``."""
        waiting = self._open[partition]
        waiting.offsets.extend(offset for offset, _ in events)
        waiting.events.extend(event for _, event in events)
        waiting.next = next_offset

    def flush_due(self, *, now_ms: int) -> None:
        """Write the partitions that have waited long enough or hold enough."""
        for partition, waiting in self._open.items():
            if waiting.next == waiting.first:
                continue
            if waiting.since_ms is None:
                waiting.since_ms = now_ms
            states = self._profiles.states_pending(partition)[0]
            full = len(waiting.events) >= FLUSH_EVENTS or states >= FLUSH_STATES
            if full or now_ms - waiting.since_ms >= FLUSH_AGE_MS:
                self._write(partition)

    def flush(self) -> None:
        """Write all that waits."""
        for partition in self._open:
            self._write(partition)

    def compact_due(self, *, now_ms: int) -> None:
        """Once an hour, merge the files of days that are over."""
        if now_ms - self._compacted_ms < COMPACT_EVERY_MS:
            return
        self._compacted_ms = now_ms
        today = from_ms(now_ms).date()
        events = {partition: self._profiles.events_from(partition) for partition in self._open}
        states = {partition: self._profiles.states_pending(partition).first_offset for partition in self._open}
        finals: dict[Kind, dict[int, int]] = {"events": events, "states": states}
        for kind, final in finals.items():
            for day in self._lake.days(kind):
                if day < today:
                    self._lake.compact(kind, day, committed=final)

    def _write(self, partition: int) -> None:
        waiting = self._open[partition]
        self._write_states(partition)
        if waiting.events:
            self._lake.write_events(partition, waiting.first, waiting.next, waiting.events, waiting.offsets)
        if waiting.next > waiting.first:
            self._profiles.move_events_from(partition, waiting.next, waiting.first, counted(waiting.events))
        self._open[partition] = _Open(first=waiting.next, next=waiting.next)

    def _write_states(self, partition: int) -> None:
        count, first, next_offset = self._profiles.states_pending(partition)
        if count:
            self._lake.write_states(
                partition, first, next_offset, self._profiles.take_states(partition, up_to_offset=next_offset)
            )
            self._profiles.drop_states(partition, up_to_offset=next_offset)

    def _gather(self, partition: int, position: int, committed: int) -> int:
        records = self._log.read(partition, offset=position, limit=min(RESUME_BATCH, committed - position))
        skipped = self._profiles.skipped(partition, position, committed)
        offsets = [(record.position.offset, record.payload) for record in records]
        events = [
            (offset, self._enrich(Event.from_payload(payload))) for offset, payload in offsets if offset not in skipped
        ]
        next_offset = records[-1].position.offset + 1
        self.add(partition, events, next_offset=next_offset)
        return next_offset
