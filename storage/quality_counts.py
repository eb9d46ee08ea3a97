"""Counting quality: aggregated in memory, written to the quality store every few seconds, beside the work."""

import logging
import threading
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bespoke.clock import HOUR_MS, MINUTE_MS, SECOND_MS, Clock, SystemClock, to_ms
from bespoke.errors import BespokeError
from bespoke.events import Event, EventType
from storage.quality import CountKey, FailedEvent, QualityStore, clean, hour_of

logger = logging.getLogger(__name__)

INTERVAL_S = 3.0
TRIM_S = 600.0
MAX_KEYS = 100_000
"""Counters that may wait while the store cannot be written; what would begin another one is dropped."""
MAX_FAILED_WAITING = 2_000
"""Failed events that may wait; past it the oldest are dropped."""
MAX_NAMES = 200
"""Event names of one source and hour that are counted by name."""
HOURS_REMEMBERED = 1_000
"""(source, hour) pairs whose names are remembered; replays of history go through many hours."""
OTHER = "(other)"
"""The name that further names count as."""
DELAYS_MS = (
    100,
    250,
    500,
    SECOND_MS,
    2 * SECOND_MS,
    5 * SECOND_MS,
    10 * SECOND_MS,
    30 * SECOND_MS,
    MINUTE_MS,
    5 * MINUTE_MS,
    15 * MINUTE_MS,
    HOUR_MS,
    6 * HOUR_MS,
    24 * HOUR_MS,
    7 * 24 * HOUR_MS,
)
"""Upper ends of the delays that are counted together; there is one more for the rest."""
DELAY_SUM = "delay_sum_ms"
DELAY_KEYS = (*(f"delay:{end}" for end in DELAYS_MS), "delay:more")
LINES = "lines"
LINE_PROPERTIES = ("price", "category", "brand", "quantity")
"""What lines should tell; those that lack it are counted."""
_MISSING = tuple(f"missing:{name}" for name in LINE_PROPERTIES)

Tallies = Mapping[tuple[str, str, str], int]
"""Counts of one source and hour, by type, name and what."""


@dataclass(frozen=True, slots=True)
class QualityWritten:
    """What became of counts and failed events so far."""

    dropped: int
    """Counts that were lost: the store could not be written for too long."""
    dropped_failed: int
    """Failed events that were not kept."""
    waiting: int
    """Counters that are not written yet."""


class QualityCounts:
    """Counts for one process; every method may be called from any thread and none waits for the store but ``flush``.

    A killed process loses what it had not written, at most one interval's worth while the store can be written.
    """

    def __init__(
        self,
        url: str,
        *,
        interval_s: float = INTERVAL_S,
        clock: Clock | None = None,
        open_store: Callable[[str], QualityStore] = QualityStore,
    ) -> None:
        """Count for the store at ``url``; it is opened when there is something to write, not now."""
        self._url, self._interval_s, self._open = url, interval_s, open_store
        self._clock = clock or SystemClock()
        self._store: QualityStore | None = None
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._counts: dict[CountKey, int] = {}
        self._failed: deque[FailedEvent] = deque()
        self._names: OrderedDict[tuple[str, int], set[str]] = OrderedDict()
        self._dropped = self._dropped_failed = 0
        self._away = False
        self._trimmed_ms = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="quality", daemon=True)

    @property
    def written(self) -> QualityWritten:
        """What was dropped and what waits."""
        with self._lock:
            return QualityWritten(self._dropped, self._dropped_failed, len(self._counts))

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write every interval."""
        self._thread.start()

    def add(self, *, at_ms: int, source: str, type: str, name: str | None, what: str, n: int = 1) -> None:
        """Count ``n`` of ``what`` in the hour of ``at_ms``, the time of receipt."""
        self.add_all({(type, name or "", what): n}, at_ms=at_ms, source=source)

    def add_all(self, tallies: Tallies, *, at_ms: int, source: str) -> None:
        """Count what one request or batch came to."""
        hour_ms, source = hour_of(at_ms), clean(source)
        with self._lock:
            names = self._names_of(source, hour_ms)
            for (type_, name, what), n in tallies.items():
                if name not in names:
                    name = self._named(name, names)
                key = CountKey(hour_ms, source, type_, name, what)
                known = self._counts.get(key)
                if known is None and len(self._counts) >= MAX_KEYS:
                    self._dropped += n
                else:
                    self._counts[key] = (known or 0) + n

    def keep(self, failed: Iterable[FailedEvent]) -> None:
        """Hand over events that failed."""
        with self._lock:
            self._failed.extend(failed)
            self._bound_failed()

    def flush(self) -> bool:
        """Write what waits; return whether all of it is written. It waits on while the store cannot be reached."""
        with self._writing:
            with self._lock:
                counts, self._counts = self._counts, {}
                failed, self._failed = self._failed, deque()
            if not counts and not failed:
                return True
            try:
                self._write(counts, failed)
            except BespokeError as error:
                self._wait_on(counts, failed, error)
                return False
            except Exception as error:
                # Trying the same again would fail again, and hold up all that comes after it.
                self._lose(sum(counts.values()), len(failed), error)
            return True

    def close(self) -> None:
        """Write what waits and end the thread; what cannot be written is dropped, and the log says how much."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self.flush():
            with self._lock:
                lost, lost_failed = sum(self._counts.values()), len(self._failed)
                self._counts, self._failed = {}, deque()
            self._lose(lost, lost_failed, None)
        if self._store is not None:
            self._store.close()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.flush()

    def _write(self, counts: Mapping[CountKey, int], failed: Iterable[FailedEvent]) -> None:
        now_ms = to_ms(self._clock.now())
        if self._store is None:
            self._store = self._open(self._url)
        self._store.write(counts, failed, now_ms=now_ms)
        if self._away:
            self._away = False
            logger.info("the quality store can be written again")
        if now_ms - self._trimmed_ms >= TRIM_S * SECOND_MS:
            self._trimmed_ms = now_ms
            self._trim(self._store, now_ms)

    def _trim(self, store: QualityStore, now_ms: int) -> None:
        try:
            store.trim(now_ms=now_ms)
        except BespokeError as error:
            # What was to be written is written: it must not be written again because of this.
            logger.warning("the quality store cannot be trimmed now: %s", type(error).__name__)

    def _wait_on(self, counts: Mapping[CountKey, int], failed: Iterable[FailedEvent], error: BespokeError) -> None:
        if not self._away:
            self._away = True
            logger.warning("counts wait, the quality store cannot be written: %s", type(error).__name__)
        with self._lock:
            newer, self._counts = self._counts, dict(counts)
            for key, n in newer.items():
                if key in self._counts or len(self._counts) < MAX_KEYS:
                    self._counts[key] = self._counts.get(key, 0) + n
                else:
                    self._dropped += n
            self._failed.extendleft(reversed(list(failed)))
            self._bound_failed()

    def _lose(self, counts: int, failed: int, error: Exception | None) -> None:
        with self._lock:
            self._dropped += counts
            self._dropped_failed += failed
        why = "cannot be reached" if error is None else type(error).__name__
        logger.error("%d counts and %d failed events were lost: quality store: %s", counts, failed, why)

    def _bound_failed(self) -> None:
        while len(self._failed) > MAX_FAILED_WAITING:
            self._failed.popleft()
            self._dropped_failed += 1

    def _names_of(self, source: str, hour_ms: int) -> set[str]:
        names = self._names.get((source, hour_ms))
        if names is None:
            names = self._names[(source, hour_ms)] = {"", OTHER}
            if len(self._names) > HOURS_REMEMBERED:
                self._names.popitem(last=False)
        return names

    def _named(self, name: str, names: set[str]) -> str:
        """Return what an unseen name counts as, and remember it where there is room."""
        name = clean(name)
        if name not in names and len(names) - 2 >= MAX_NAMES:
            return OTHER
        names.add(name)
        return name


class EventTally:
    """Counts accepted events of one request, cheaply: by type and name first, in words at the end."""

    def __init__(self) -> None:
        self._of: dict[tuple[EventType, str | None], list[int]] = {}

    def add(self, event: Event) -> None:
        """Count one accepted event: its delay, and what its lines lack."""
        key = (event.type, event.name)
        row = self._of.get(key)
        if row is None:
            row = self._of[key] = [0] * _WIDTH
        delay_ms = event.received_ms - event.at_ms
        row[0] += 1
        row[1] += max(delay_ms, 0)
        row[_DELAYS + bisect_left(DELAYS_MS, delay_ms)] += 1
        for line in event.lines:
            row[2] += 1
            if line.price is None:
                row[3] += 1
            if line.category is None:
                row[4] += 1
            if line.brand is None:
                row[5] += 1
        if event.lines:
            row[6] += _without_quantity(event)

    def tallies(self) -> dict[tuple[str, str, str], int]:
        """Return the counts that are not zero."""
        return {
            (type_.value, name or "", what): n
            for (type_, name), row in self._of.items()
            for what, n in zip(_WHATS, row, strict=True)
            if n
        }


_WHATS = ("accepted", DELAY_SUM, LINES, *_MISSING, *DELAY_KEYS)
_WIDTH = len(_WHATS)
_DELAYS = 3 + len(_MISSING)


def _without_quantity(event: Event) -> int:
    # A line without a quantity counts as one piece, so only the properties tell that nothing was said.
    products = event.properties.get("products")
    if not isinstance(products, list):
        return event.properties.get("quantity") is None
    return sum(row.get("quantity") is None for row in products if isinstance(row, dict))
