"""Writing beside the answers: what requests leave behind waits in memory until a thread has written it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL_S = 0.05
MAX_WRITE = 1_000
CLOSE_TRIES = 5


@dataclass(frozen=True, slots=True)
class WriterCounts:
    """What became of what was handed over so far."""

    written: int
    dropped: int
    waiting: int


class BufferedWriter(Generic[T]):
    """Hands what waits to ``write`` from a thread of its own, every ``interval_s``.

    While nothing can be written it waits; past ``capacity`` the oldest are dropped and counted. What makes ``write``
    raise is dropped too: trying it again would fail again, and hold up all that comes after it.
    """

    def __init__(
        self,
        write: Callable[[list[T]], bool],
        *,
        what: str,
        capacity: int,
        interval_s: float = INTERVAL_S,
        each_turn: Callable[[], object] = lambda: None,
    ) -> None:
        """Write by ``write``, which returns False where that is not possible now.

        Args:
            write: writes a batch.
            what: names it in logs.
            capacity: how many may wait.
            interval_s: how long after one turn the next one comes.
            each_turn: is called in each, also where nothing waits.
        """
        self._each_turn = each_turn
        self._write, self._what, self._capacity, self._interval_s = write, what, capacity, interval_s
        self._waiting: deque[T] = deque()
        self._lock = threading.Lock()
        self._written = self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    @property
    def counts(self) -> WriterCounts:
        """What was written, dropped and waits."""
        with self._lock:
            return WriterCounts(self._written, self._dropped, len(self._waiting))

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._thread.is_alive()

    @property
    def closing(self) -> bool:
        """Whether this is the end."""
        return self._closing.is_set()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, things: Iterable[T]) -> None:
        """Hand things over; never waits for the disk."""
        with self._lock:
            self._waiting.extend(things)
            self._bound()

    def close(self) -> None:
        """Write what waits and end the thread; what cannot be written is counted as dropped and logged."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        for _ in range(CLOSE_TRIES):
            if not self.write_waiting():
                break
        with self._lock:
            lost = len(self._waiting)
            self._waiting.clear()
            self._dropped += lost
        if lost:
            logger.error("%d %s were lost: they could not be written", lost, self._what)

    def write_waiting(self) -> bool:
        """Write what waits; return whether something still waits because it cannot be written."""
        while batch := self._take():
            try:
                written = self._write(batch)
            except Exception as error:
                logger.error("%d %s are lost: %s", len(batch), self._what, type(error).__name__)
                with self._lock:
                    self._dropped += len(batch)
                continue
            with self._lock:
                if not written:
                    self._waiting.extendleft(reversed(batch))
                    self._bound()
                    return True
                self._written += len(batch)
        return False

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._each_turn()
            self.write_waiting()

    def _take(self) -> list[T]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(MAX_WRITE, len(self._waiting)))]

    def _bound(self) -> None:
        while len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self._dropped += 1
