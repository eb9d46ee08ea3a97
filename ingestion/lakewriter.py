"""The lake writer: gathers applied events and state rows, writes them as files of an offset range, counts items."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
    states: int = 0
    """State rows that were committed meanwhile."""
    since_ms: int | None = None

    def due(self, *, now_ms: int) -> bool:
        """Return whether it has waited long enough, or holds enough."""
        if self.next == self.first:
            return False
        if self.since_ms is None:
            self.since_ms = now_ms
        full = len(self.events) >= FLUSH_EVENTS or self.states >= FLUSH_STATES
        return full or now_ms - self.since_ms >= FLUSH_AGE_MS

    def followed_by(self, later: "_Open") -> "_Open":
        """Return this with what came after it."""
        events, offsets = self.events + later.events, self.offsets + later.offsets
        return _Open(self.first, later.next, events, offsets, self.states + later.states, self.since_ms)


class LakeWriter:
    """Writes one process's partitions, in a thread of its own, so that nobody's features wait for files.

    Events wait in memory and are read again from the log after a crash; state rows wait in the profile store's outbox.
    A file that was written just before a crash, and not yet counted, is discarded at the next start and written anew.
    What the events did with items is counted in the transaction that says that they are in the lake, so exactly once.

    Args:
        lake: where files go.
        log: the event log.
        profiles: the profile store.
        enrich: what is added to events, as in profiles.
        after: called in the thread after each file; returns whether it is done, and is called again where it is not.
    """

    def __init__(
        self,
        lake: Lake,
        log: EventLog,
        profiles: ProfileStore,
        *,
        enrich: Callable[[Event], Event] = lambda event: event,
        after: Callable[[], bool] | None = None,
    ) -> None:
        self._lake, self._log, self._profiles, self._enrich = lake, log, profiles, enrich
        self._open: dict[int, _Open] = {}
        self._compacted_ms = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lake")
        self._writing: dict[int, tuple[_Open, Future[None]]] = {}
        self._other: Future[bool] | None = None
        self._after = after or (lambda: True)
        self._done = after is None

    def resume(self, partition: int, *, committed: int) -> None:
        """Take up ``partition`` where the last process left it: discard uncounted files, gather anew what they held."""
        position = self._profiles.events_from(partition)
        self._lake.discard_from("events", partition, position)
        self._lake.discard_from("states", partition, self._profiles.states_pending(partition).first_offset)
        self._open[partition] = _Open(first=position, next=position)
        while position < committed:
            position = self._gather(partition, position, committed)

    def add(self, partition: int, events: Sequence[tuple[int, Event]], *, next_offset: int, states: int = 0) -> None:
        """Take the applied events of one batch, each with its offset; the batch ends before ``next_offset``."""
        waiting = self._open[partition]
        waiting.offsets.extend(offset for offset, _ in events)
        waiting.events.extend(event for _, event in events)
        waiting.next = next_offset
        waiting.states += states

    def flush_due(self, *, now_ms: int) -> None:
        """Begin to write the partitions that have waited long enough or hold enough.

        Raises:
            Unavailable: an earlier write failed; what it held waits again.
        """
        self._settle(wait=False)
        for partition, waiting in self._open.items():
            if waiting.due(now_ms=now_ms):
                if partition in self._writing and len(waiting.events) >= FLUSH_EVENTS:
                    # Files are written more slowly than events come: memory is not to grow for that.
                    self._settle(wait=True)
                if partition not in self._writing:
                    self._begin(partition)
        if not self._done and not self._writing and self._other is None:
            self._other = self._thread.submit(self._after)

    def flush(self) -> None:
        """Write all that waits; return when it is written."""
        self._settle(wait=True)
        for partition in self._open:
            self._begin(partition)
        self._settle(wait=True)

    def compact_due(self, *, now_ms: int) -> None:
        """Once an hour, merge the files of days that are over."""
        if now_ms - self._compacted_ms < COMPACT_EVERY_MS or self._other is not None:
            return
        self._compacted_ms = now_ms
        self._other = self._thread.submit(self._compact, now_ms)

    def close(self) -> None:
        """End the thread; what it is at is finished."""
        self._thread.shutdown()

    def _begin(self, partition: int) -> None:
        waiting = self._open[partition]
        self._open[partition] = _Open(first=waiting.next, next=waiting.next)
        self._writing[partition] = waiting, self._thread.submit(self._write, partition, waiting)

    def _settle(self, *, wait: bool) -> None:
        """Take notice of writes that ended; what a failed one held waits again, in its place."""
        for partition, (waiting, writing) in list(self._writing.items()):
            if wait or writing.done():
                error = writing.exception()
                del self._writing[partition]
                if error is not None:
                    self._open[partition] = waiting.followed_by(self._open[partition])
                    raise error
        if self._other is not None and (wait or self._other.done()):
            other, self._other = self._other, None
            self._done = other.result()

    def _compact(self, now_ms: int) -> bool:
        today = from_ms(now_ms).date()
        events = {partition: self._profiles.events_from(partition) for partition in self._open}
        states = {partition: self._profiles.states_pending(partition).first_offset for partition in self._open}
        finals: dict[Kind, dict[int, int]] = {"events": events, "states": states}
        for kind, final in finals.items():
            for day in self._lake.days(kind):
                if day < today:
                    self._lake.compact(kind, day, committed=final)
        return self._done

    def _write(self, partition: int, waiting: _Open) -> None:
        self._write_states(partition)
        if waiting.events:
            self._lake.write_events(partition, waiting.first, waiting.next, waiting.events, waiting.offsets)
        if waiting.next > waiting.first:
            self._profiles.move_events_from(partition, waiting.next, waiting.first, counted(waiting.events))
            self._done = self._after()

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
        # Retention may have removed messages: then there are fewer, or none.
        next_offset = min(records[-1].position.offset + 1, committed) if records else committed
        self.add(
            partition, [(offset, event) for offset, event in events if offset < committed], next_offset=next_offset
        )
        return next_offset
