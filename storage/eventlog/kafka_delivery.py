"""A delivery: some messages on their way to Kafka, whose reports come one by one from another thread."""

import threading

from confluent_kafka import KafkaError, KafkaException, Message

from storage.eventlog.base import Position


class Delivery:
    """One caller's messages on their way to the brokers, and what became of them."""

    def __init__(self, count: int) -> None:
        self._positions: list[Position | None] = [None] * count
        self._left = count
        self._error: KafkaError | None = None
        self._turn = threading.Condition()

    def report(self, index: int, error: KafkaError | None, message: Message) -> None:
        """Take the report of one message."""
        partition, offset = message.partition(), message.offset()
        with self._turn:
            if error is not None:
                self._error = error
            elif partition is not None and offset is not None:
                self._positions[index] = Position(partition, offset)
            self._left -= 1
            if not self._left:
                self._turn.notify_all()

    def wait(self, timeout_s: float) -> list[Position]:
        """Return the positions in the order given, once every message is reported.

        Raises:
            KafkaException: one was not delivered.
        """
        with self._turn:
            reported = self._turn.wait_for(lambda: not self._left, timeout_s)
        positions = [position for position in self._positions if position is not None]
        if self._error is not None or not reported or len(positions) < len(self._positions):
            raise KafkaException(self._error or KafkaError(KafkaError._TIMED_OUT, "not all messages were delivered"))
        return positions
