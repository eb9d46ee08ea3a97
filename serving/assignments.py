"""What requests must remember between replicas: who was assigned what, and what they were shown.

Read before a request is placed, from memory where the units came lately; written beside the answer, never before it.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bespoke.errors import BespokeError
from bespoke.experiments import Assignment, Kept
from serving.at_once import AtOnce
from serving.buffered import INTERVAL_S, BufferedWriter, WriterCounts
from storage.serving_state import Held, ServingState, Shown

logger = logging.getLogger(__name__)

ASSIGNMENTS_UNAVAILABLE = "assignments_unavailable"
"""The answer follows from the hash alone: it is another one than stored for the few whose assignment was kept."""
READ_TIMEOUT_S = 0.05
READ_THREADS = 2
AWAY_S = 1.0
"""After a read that failed or was late, so long no other one is tried: requests must not queue for a dead store."""
RECENT_UNITS = 100_000
FRESH_S = 60.0
KEPT_S = 300.0
"""What is stored of a unit hardly ever changes, so it is believed for so long; but past ``FRESH_S`` it is no ground for
a new assignment, which another replica may have made by then."""
EMPTY_FRESH_S = 2.0
"""That nothing was stored of a unit is believed for so long: another replica may store something."""
CAPACITY = 50_000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one request's units."""

    held: Held = field(default_factory=Held)
    degraded: str | None = None
    fresh: bool = field(default=True, compare=False)
    """Whether it was read so lately that a new assignment may follow from it."""


_UNKNOWN: tuple[float, dict[str, Kept]] = (0.0, {})


class _Recent:
    """Stored assignments of units that came lately; safe between threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._units: OrderedDict[str, tuple[float, dict[str, Kept]]] = OrderedDict()

    def get(self, units: Sequence[str], *, now: float) -> Known | None:
        """Return what is stored of all ``units``; None where that is not known of each."""
        found: dict[tuple[str, str], Kept] = {}
        fresh = True
        with self._lock:
            for unit in units:
                until, kept = self._units.get(unit, _UNKNOWN)
                if until + (KEPT_S - FRESH_S if kept else 0) <= now:
                    return None
                fresh &= now < until
                for key, one in kept.items():
                    found[key, unit] = one
        return Known(Held(found), fresh=fresh)

    def last_known(self, units: Sequence[str]) -> dict[tuple[str, str], Kept]:
        """Return what was stored of ``units`` when they came last, however long ago."""
        with self._lock:
            return {(key, unit): one for unit in units for key, one in self._units.get(unit, _UNKNOWN)[1].items()}

    def put(self, units: Sequence[str], held: Held, *, now: float) -> None:
        """Remember what the store said."""
        with self._lock:
            for unit in units:
                self._set(unit, {key: kept for (key, of), kept in held.assignments.items() if of == unit}, now=now)

    def add(self, made: Sequence[Assignment], *, now: float) -> None:
        """Remember new assignments."""
        with self._lock:
            for one in made:
                _, kept = self._units.get(one.unit, _UNKNOWN)
                self._set(one.unit, kept | {one.key: Kept(one.variant, one.phase, one.at_ms)}, now=now)

    def _set(self, unit: str, kept: dict[str, Kept], *, now: float) -> None:
        self._units[unit] = (now + (FRESH_S if kept else EMPTY_FRESH_S), kept)
        self._units.move_to_end(unit)
        while len(self._units) > self._capacity:
            self._units.popitem(last=False)


class Assignments:
    """A replica's hold on the serving state store. No request fails or waits long because the store is away.

    A killed process loses what it had not written yet, at most one interval's worth while the store can be written.
    While it cannot, assignments and exposures wait; past ``capacity`` the oldest are dropped and counted.
    """

    def __init__(
        self,
        open_store: Callable[[], ServingState],
        *,
        capacity: int = CAPACITY,
        recent_units: int = RECENT_UNITS,
        interval_s: float = INTERVAL_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        away_s: float = AWAY_S,
    ) -> None:
        """Hold the store that ``open_store`` opens; it is opened by :meth:`start`, and tried again while it is away."""
        self._open = open_store
        self._read_timeout_s, self._away_s = read_timeout_s, away_s
        self._store: ServingState | None = None
        self._recent = _Recent(recent_units)
        self._away_until = 0.0
        self._away = False
        self._writer: BufferedWriter[Assignment | Shown] = BufferedWriter(
            self._write,
            what="assignments and exposures",
            capacity=capacity,
            interval_s=interval_s,
            each_turn=self._opened,
        )
        self._at_once = AtOnce()
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="assignments")

    @property
    def counts(self) -> WriterCounts:
        """What was written, dropped and waits."""
        return self._writer.counts

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._writer.alive

    @property
    def available(self) -> bool:
        """Whether the store could be reached when it was last tried."""
        return self._store is not None and not self._away

    def start(self) -> None:
        """Open the store if it can be reached now, and begin to write."""
        self._opened()
        self._writer.start()

    async def read(self, units: Sequence[str], *, since_ms: int = 0, shown: bool = False, fresh: bool = False) -> Known:
        """Return what is stored of ``units``; never raises where the store fails.

        Args:
            units: the ids of one request, the person's first (:func:`bespoke.experiments.unit_ids`).
            since_ms: exposures are counted from the UTC day of this moment on.
            shown: whether to count exposures; assignments alone come from memory where the units came lately.
            fresh: whether it has to be such that a new assignment may follow from it.
        """
        now = time.monotonic()
        recent = None if shown else self._recent.get(units, now=now)
        if recent is not None and (recent.fresh or not fresh):
            return recent
        store = self._store
        if store is None or now < self._away_until:
            return self._without_store(units)
        try:
            held = await self._at_once.read_or_wait(
                lambda: store.read_at_once(units, since_ms=since_ms, shown=shown),
                lambda: store.read(units, since_ms=since_ms, shown=shown),
                threads=self._threads,
                timeout_s=self._read_timeout_s,
            )
        except Exception as error:
            # Whatever a store raises: people still get a list.
            self._gone(error)
            return self._without_store(units)
        self._back()
        self._recent.put(units, held, now=now)
        return Known(held)

    def put(self, made: Sequence[Assignment] = (), shown: Shown | None = None) -> None:
        """Hand over what one request assigned and showed; never waits for the disk."""
        # What the hash alone decided while the store is away may not be what is stored.
        if made and self.available:
            self._recent.add(made, now=time.monotonic())
        self._writer.put([*made, *([shown] if shown is not None and shown.item_ids else [])])

    def close(self) -> None:
        """Write what waits and end the thread; what cannot be written is counted as dropped and logged."""
        self._writer.close()
        self._threads.shutdown()
        if self._store is not None:
            self._store.close()

    def _write(self, batch: Sequence[Assignment | Shown]) -> bool:
        store, (made, shown) = self._opened(), _parted(batch)
        if store is None:
            return False
        try:
            # The requests' own time: a replay lives in the time of its data.
            store.write(assignments=made, shown=shown, now_ms=max((one.at_ms for one in shown), default=0))
        except BespokeError as error:
            self._gone(error)
            return False
        self._back()
        return True

    def _without_store(self, units: Sequence[str]) -> Known:
        return Known(Held(self._recent.last_known(units)), ASSIGNMENTS_UNAVAILABLE)

    def _opened(self) -> ServingState | None:
        if self._store is None and (self._writer.closing or time.monotonic() >= self._away_until):
            try:
                self._store = self._open()
                self._back()
            except BespokeError as error:
                self._gone(error)
        return self._store

    def _back(self) -> None:
        if self._away:
            self._away = False
            logger.info("the serving state can be reached again")

    def _gone(self, error: Exception) -> None:
        self._away_until = time.monotonic() + self._away_s
        if not self._away:
            self._away = True
            # The message may hold personal data.
            logger.warning("the serving state cannot be reached: %s", type(error).__name__)


def _parted(batch: Sequence[Assignment | Shown]) -> tuple[list[Assignment], list[Shown]]:
    return [one for one in batch if isinstance(one, Assignment)], [one for one in batch if isinstance(one, Shown)]
