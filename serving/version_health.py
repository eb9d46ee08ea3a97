"""Health of the versions that answer: counted in memory, written to the control store each second beside the work."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from bespoke.clock import Clock, SystemClock, from_ms, to_ms
from bespoke.experiments import BUCKETS, Health, bucket_of
from storage.control import ControlStore
from storage.control_traffic import BUCKET_MS, KEEP_MS, Served, ServedHealth

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0


@dataclass(slots=True)
class _Counting:
    """Counts of one version, experiment and variant in five seconds."""

    count: int = 0
    errors: int = 0
    missed: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * BUCKETS)


class VersionHealth:
    """Counts what this replica answers, and keeps the control store at it; no request waits for that.

    While the control store is away, counts of up to an hour wait.
    """

    def __init__(
        self,
        control: ControlStore,
        *,
        clock: Clock | None = None,
        interval_s: float = INTERVAL_S,
        replica: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self._control, self._clock, self._interval_s = control, clock or SystemClock(), interval_s
        self._replica = replica()
        self._lock = threading.Lock()
        self._counting: dict[tuple[int, Served], _Counting] = {}
        self._changed: set[tuple[int, Served]] = set()
        self._away = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="version-health", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def record(
        self,
        version: str | None,
        *,
        ms: float,
        experiment: str | None = None,
        variant: str | None = None,
        others: Sequence[tuple[str, str]] = (),
        error: bool = False,
        missed: bool = False,
    ) -> None:
        """Count one answer.

        Args:
            version: ``NAME@VERSION`` that answered, or should have where it is missing; None where there was none.
            ms: how long the decision took.
            experiment: the experiment that chose the version, if one did.
            variant: its variant.
            others: (experiment, variant) of the other layers' assignments, which chose something else of the answer.
            error: the version failed, raised or gave no finite scores, and something else answered.
            missed: a stage missed its deadline and was skipped.
        """
        at_ms = to_ms(self._clock.now()) // BUCKET_MS * BUCKET_MS
        # Without a version, so that a request counts once for the version that answered.
        beside = [Served("", *other) for other in others]
        with self._lock:
            for served in (Served(version or "", experiment or "", variant or ""), *beside):
                counting = self._counting.setdefault((at_ms, served), _Counting())
                counting.count += 1
                counting.errors += error
                counting.missed += missed
                counting.latency[bucket_of(ms)] += 1
                self._changed.add((at_ms, served))

    def flush(self) -> bool:
        """Write what changed; return whether that succeeded. It waits on while the control store is away."""
        at = self._clock.now()
        with self._lock:
            changed, self._changed = self._changed, set()
            rows = [self._row(key) for key in sorted(changed, key=lambda key: (key[0], repr(key[1])))]
        try:
            if rows:
                self._control.save_health(self._replica, rows, at=at)
        except Exception as error:
            # Whatever a store raises: counts wait, and the thread goes on.
            if not self._away:
                logger.warning("health of versions waits, the control store cannot be written: %s", error)
            self._away = True
            with self._lock:
                self._changed |= changed
            self._forget(at)
            return False
        self._away = False
        self._forget(at)
        return True

    def close(self) -> None:
        """Write what is left, if that is possible, and end the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self.flush()

    def _row(self, key: tuple[int, Served]) -> ServedHealth:
        at_ms, served = key
        one = self._counting[key]
        return ServedHealth(served, from_ms(at_ms), Health(one.count, one.errors, one.missed, tuple(one.latency)))

    def _forget(self, at: datetime) -> None:
        """Drop what is written and closed, and what waited too long."""
        open_ms, oldest_ms = to_ms(at) - 2 * BUCKET_MS, to_ms(at) - KEEP_MS
        with self._lock:
            done = [
                key for key in self._counting if key[0] < oldest_ms or (key[0] < open_ms and key not in self._changed)
            ]
            for key in done:
                del self._counting[key]
                self._changed.discard(key)
