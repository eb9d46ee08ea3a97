"""How far a consumer group is, kept by Kafka as the group's committed offsets. Nobody joins the group."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_SLICE_S = 0.002


class Group:
    """The committed offsets of one group in one topic."""

    def __init__(self, settings: Mapping[str, Any], topic: str, *, timeout_s: float) -> None:
        """Use the group that ``settings`` names in ``group.id``."""
        self._consumer = Consumer({**settings, "on_commit": self._answered})
        self._topic, self._timeout_s = topic, timeout_s
        self._turn = threading.Lock()
        self._closed = False
        self._asked: tuple[int, int] | None = None
        self._error: KafkaError | None = None

    def positions(self, partitions: int) -> dict[int, int]:
        """Return the committed offset of each partition, 0 where there is none.

        Raises:
            KafkaException: the group's broker does not answer in time.
        """
        asked = [TopicPartition(self._topic, partition) for partition in range(partitions)]
        with self._turn:
            self._check_open()
            found = self._consumer.committed(asked, self._timeout_s)
        for part in found:
            if part.error is not None:
                raise KafkaException(part.error)
        # Kafka says "none" by a negative offset.
        return {part.partition: max(part.offset, 0) for part in found}

    def set_position(self, partition: int, offset: int) -> None:
        """Commit ``offset`` and return when Kafka has it.

        Raises:
            KafkaException: the group's broker does not take it in time.
        """
        give_up_at = time.monotonic() + self._timeout_s
        with self._turn:
            self._check_open()
            self._asked, self._error = (partition, offset), None
            # The library's own way of waiting knows no timeout.
            self._consumer.commit(offsets=[TopicPartition(self._topic, partition, offset)], asynchronous=True)
            while self._asked is not None:
                if time.monotonic() > give_up_at:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the group's position was not taken"))
                self._consumer.poll(_SLICE_S)
            if self._error is not None:
                raise KafkaException(self._error)

    def _answered(self, error: KafkaError | None, parts: list[TopicPartition]) -> None:
        for part in parts:
            # An answer to an earlier call, which was given up, says nothing about this one.
            if (part.partition, part.offset) == self._asked:
                self._asked, self._error = None, error or part.error

    def close(self) -> None:
        """Let go of the connection; what was committed stays."""
        with self._turn:
            self._closed = True
            self._consumer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise KafkaException(KafkaError(KafkaError._STATE, "the event log was closed"))
