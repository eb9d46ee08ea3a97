"""Exposures: what was shown to whom, written to the event log beside the answer and never before it."""

import logging
import threading
from collections import deque
from dataclasses import dataclass

from bespoke.errors import BespokeError
from storage.eventlog.base import EventLog, Message

logger = logging.getLogger(__name__)

CAPACITY = 20_000
INTERVAL_S = 0.05
MAX_WRITE = 1_000
CLOSE_TRIES = 5


@dataclass(frozen=True, slots=True)
class ExposureCounts:
    """What became of the exposures so far."""

    written: int
    dropped: int
    waiting: int


class ExposureWriter:
    """Appends messages to the event log from a thread of its own, every ``INTERVAL_S``.

    A killed process loses what it had not written yet, at most one interval's worth while the log can be written. While
    it cannot, messages wait; past ``capacity`` the oldest are dropped and counted.
    """

    def __init__(self, log: EventLog, *, capacity: int = CAPACITY, interval_s: float = INTERVAL_S) -> None:
        self._log = log
        self._capacity = capacity
        self._interval_s = interval_s
        self._waiting: deque[Message] = deque()
        self._lock = threading.Lock()
        self._written = 0
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)

    @property
    def counts(self) -> ExposureCounts:
        """What was written, dropped and waits."""
        with self._lock:
            return ExposureCounts(self._written, self._dropped, len(self._waiting))

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, message: Message) -> None:
        """Hand over one message; never waits for the disk."""
        with self._lock:
            if len(self._waiting) >= self._capacity:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(message)

    def close(self) -> None:
        """Write what waits and end the thread; what cannot be written is counted as dropped and logged."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()
        for _ in range(CLOSE_TRIES):
            if not self._write_waiting():
                break
        with self._lock:
            lost = len(self._waiting)
            self._waiting.clear()
            self._dropped += lost
        if lost:
            logger.error("%d exposures were lost: the event log could not be written", lost)

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._write_waiting()

    def _write_waiting(self) -> bool:
        """Write what waits; return whether something still waits because the log cannot be written."""
        while batch := self._take():
            try:
                self._log.append(batch)
            except BespokeError as error:
                logger.warning("exposures wait, the event log cannot be written: %s", type(error).__name__)
                self._put_back(batch)
                return True
            with self._lock:
                self._written += len(batch)
        return False

    def _take(self) -> list[Message]:
        with self._lock:
            return [self._waiting.popleft() for _ in range(min(MAX_WRITE, len(self._waiting)))]

    def _put_back(self, batch: list[Message]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            while len(self._waiting) > self._capacity:
                self._waiting.popleft()
                self._dropped += 1
