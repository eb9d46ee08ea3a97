"""Exposures: what was shown to whom, written to the event log beside the answer and never before it."""

import logging

from bespoke.errors import BespokeError
from serving.buffered import BufferedWriter, WriterCounts
from storage.eventlog.base import EventLog, Message

logger = logging.getLogger(__name__)

CAPACITY = 20_000
INTERVAL_S = 0.25
"""Each write wakes the processor, and a small batch costs it nearly as much as a large one."""


class ExposureWriter:
    """Appends messages to the event log.

    A killed process loses what it had not written yet, at most one interval's worth while the log can be written.
    """

    def __init__(self, log: EventLog, *, capacity: int = CAPACITY, interval_s: float = INTERVAL_S) -> None:
        self._log = log
        self._writer = BufferedWriter(self._append, what="exposures", capacity=capacity, interval_s=interval_s)

    @property
    def counts(self) -> WriterCounts:
        """What was written, dropped and waits."""
        return self._writer.counts

    @property
    def alive(self) -> bool:
        """Whether the thread still writes."""
        return self._writer.alive

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    def put(self, message: Message) -> None:
        """Hand over one message; never waits for the disk."""
        self._writer.put((message,))

    def close(self) -> None:
        """Write what waits and end the thread; what cannot be written is counted as dropped and logged."""
        self._writer.close()

    def _append(self, batch: list[Message]) -> bool:
        try:
            self._log.append(batch)
        except BespokeError as error:
            logger.warning("exposures wait, the event log cannot be written: %s", type(error).__name__)
            return False
        return True
