"""A cursor: reads one partition of a Kafka topic from any offset, fetching ahead while it is read in order."""

import threading
import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from storage.eventlog.base import Position, Record

MESSAGE_ID = "messageId"
RECEIVED_MS = "received_ms"
"""Names of the headers."""

_SLICE_S = 0.1
_TAKE_AT_ONCE = 10_000


class Cursor:
    """Stands at one offset of one partition. It belongs to no consumer group and commits nothing.

    Its consumer goes on fetching in the background, so a read that follows the last one finds its messages here; a
    read from elsewhere moves the consumer, which costs a round trip.
    """

    def __init__(
        self, consumer: Consumer, topic: str, partition: int, *, start: Callable[[int], int], timeout_s: float
    ) -> None:
        """Read ``partition`` through ``consumer``, which is this cursor's alone.

        Args:
            consumer: assigned by hand, tells when it reaches the end.
            topic: what to read.
            partition: which part of it.
            start: gives the first offset that a partition still has.
            timeout_s: how long a read waits for messages that are there.
        """
        self._consumer, self._topic, self._partition = consumer, topic, partition
        self._start, self._timeout_s = start, timeout_s
        self._lock = threading.Lock()
        self._next: int | None = None
        self._ahead: list[Message] = []
        self._closed = False

    def stands_at(self, offset: int) -> bool:
        """Return whether the next message to come is that of ``offset``."""
        return self._next == offset

    def known_end(self) -> int:
        """Return the partition's end as the last fetch told it, without asking; negative where none did."""
        with self._lock:
            self._check_open()
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, self._partition), cached=True)
        return int(high)

    def read(self, offset: int, *, limit: int, end: int) -> list[Record]:
        """Return the records of ``offset <= offset < end``, at most ``limit``; offsets that are gone are left out.

        Raises:
            KafkaException: they do not come in time.
        """
        with self._lock:
            self._stand(offset)
            records: list[Record] = []
            try:
                at = self._fill(records, offset, limit, end)
            except BaseException:
                self._next = None
                raise
            self._next = at
            return records

    def arrived(self, offset: int) -> bool:
        """Return whether a message at or after ``offset`` is here; does not wait, and does not take it.

        Raises:
            KafkaException: the partition cannot be read from there.
        """
        with self._lock:
            self._stand(offset)
            if not self._ahead:
                self._ahead = [message for message in self._consume(1, 0) if not _end_reached(message)]
            return bool(self._ahead)

    def close(self) -> None:
        """Let go of the consumer."""
        self._closed = True
        with self._lock:
            self._consumer.close()

    def _stand(self, offset: int) -> None:
        self._check_open()
        if self._next == offset:
            return
        self._ahead, self._next = [], None
        first = max(offset, self._start(self._partition))
        self._consumer.assign([TopicPartition(self._topic, self._partition, first)])
        self._next = offset

    def _check_open(self) -> None:
        if self._closed:
            raise KafkaException(KafkaError(KafkaError._STATE, "the event log was closed"))

    def _fill(self, records: list[Record], at: int, limit: int, end: int) -> int:
        give_up_at = time.monotonic() + self._timeout_s
        while len(records) < limit and at < end:
            self._check_open()
            messages = self._take(limit - len(records))
            for message in messages:
                if _end_reached(message):
                    # The end comes as an event of its own: the last offsets may be such that hold no message.
                    at = max(at, _offset(message))
                else:
                    records.append(_record(message))
                    at = _offset(message) + 1
            if messages:
                give_up_at = time.monotonic() + self._timeout_s
            elif time.monotonic() > give_up_at:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no messages from offset {at} on, of {end}"))
        return at

    def _take(self, count: int) -> list[Message]:
        """Return what has been fetched, at most ``count`` and at least one message if one comes within a moment."""
        messages, self._ahead = self._ahead, []
        messages = messages or self._consume(1, _SLICE_S)
        if messages and count > 1:
            # Asked for several with a timeout, the library waits for all of them.
            messages += self._consume(min(count - 1, _TAKE_AT_ONCE), 0)
        return messages

    def _consume(self, count: int, timeout_s: float) -> list[Message]:
        messages = self._consumer.consume(count, timeout_s)
        for message in messages:
            error = message.error()
            if error is not None and not _end_reached(message):
                self._next = None
                raise KafkaException(error)
        return messages


def _end_reached(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def _offset(message: Message) -> int:
    offset = message.offset()
    assert offset is not None
    return offset


def _record(message: Message) -> Record:
    partition, offset = message.partition(), _offset(message)
    assert partition is not None
    said = {name: _bytes(value) for name, value in dict(message.headers() or ()).items()}
    message_id = said.get(MESSAGE_ID, b"").decode(errors="replace")
    received_ms = said.get(RECEIVED_MS, b"")
    # Others may write to the topic too; what has no headers is known by its place and the broker's time.
    return Record(
        Position(partition, offset),
        message_id if message_id.isprintable() and message_id else f"{partition}.{offset}",
        int(received_ms) if received_ms.isdigit() else message.timestamp()[1],
        _bytes(message.value()),
    )


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""
