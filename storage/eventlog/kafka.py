"""The event log in a Kafka topic: appends that every in-sync replica has, reads without a consumer group."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bespoke.errors import ConfigError, Unavailable
from storage.eventlog.base import DEFAULT_PARTITIONS, EventLog, Message, Position, Record, partition_of
from storage.eventlog.kafka_address import KafkaAddress
from storage.eventlog.kafka_cursor import MESSAGE_ID, RECEIVED_MS, Cursor
from storage.eventlog.kafka_delivery import Delivery
from storage.eventlog.kafka_group import Group

TIMEOUT_S = 10.0
POLL_S = 0.005
APPEND_AT_ONCE = 20_000
"""The client library's queue takes 100,000 messages."""
CURSORS = 2
"""Per partition: one for who reads on at the end, one for who reads again from earlier on."""

_READING = {
    # Needed by the library; nothing is committed under it.
    "group.id": "bespoke-reader",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_uncommitted",
}
_READING_BY_DEFAULT = {
    # A cursor that is moved waits for the fetch that is under way, which waits that long for messages to come.
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 16_384,
}


class KafkaEventLog(EventLog):
    """A log in one topic, for any number of machines.

    An append returns when every in-sync replica has its messages. One that raises Unavailable may have left some of
    them in the log: nothing was acknowledged, the sender repeats, and repeats are recognised by their messageId.
    """

    def __init__(self, address: str, *, partitions: int | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """Open the log, creating its topic where it is missing; a new topic keeps its messages for good.

        Args:
            address: ``kafka://HOST:PORT[,HOST:PORT]/TOPIC[?SETTING=VALUE&...]``, with settings of librdkafka.
            partitions: how many a new topic gets (4 if None); an existing one must have that many.
            timeout_s: how long any call waits for the brokers.

        Raises:
            ConfigError: the address or a setting is wrong, or the topic has another number of partitions.
            Unavailable: no broker can be reached.
        """
        self._address = KafkaAddress.parse(address)
        self._timeout_s = timeout_s
        self._trouble: str | None = None
        self._closing = threading.Event()
        self._cursors: dict[int, list[Cursor]] = {}
        self._groups: dict[str, Group] = {}
        self._choosing = threading.Lock()
        if partitions is not None and partitions < 1:
            raise ConfigError(f"event log {self._address}: got {partitions} partitions, expected 1 or more")
        try:
            # Asks for ends. It is never closed while a call may use it, but let go of with the log.
            self._asking = Consumer(self._settings() | _READING)
            self.partitions = self._create(partitions)
            self._producer = self._new_producer()
        except KafkaException as error:
            raise ConfigError(self._said(error, "correct the settings in the address")) from error
        except Unavailable:
            # Its callback points back at us: whoever tries again and again would gather its threads.
            del self._asking
            raise
        self._reporting = threading.Thread(target=self._report, name="kafka-delivery-reports", daemon=True)
        self._reporting.start()

    def _settings(self, **defaults: object) -> dict[str, Any]:
        # What happens to connections is told through the errors of calls, so the library need not print it.
        own = {"bootstrap.servers": self._address.servers, "error_cb": self._note, "log_level": 0}
        return (
            {"socket.keepalive.enable": True, "reconnect.backoff.max.ms": 1_000, **defaults}
            | dict(self._address.settings)
            | own
        )

    def _new_producer(self) -> Producer:
        # A lone caller waits for nobody; a crowd's messages gather while the requests before them are under way.
        settings = self._settings(**{"linger.ms": 0})
        delivery = {"acks": "all", "enable.idempotence": True, "delivery.timeout.ms": round(self._timeout_s * 1000)}
        return Producer(settings | delivery)

    def _create(self, wanted: int | None) -> int:
        with self._reachable():
            found = self._partitions()
            if found is None:
                self._create_topic(wanted or DEFAULT_PARTITIONS)
                found = self._await_topic()
        if wanted is not None and wanted != found:
            raise ConfigError(
                f"event log {self._address}: got {wanted} partitions, but it was created with {found} and keeps them; "
                f"ask for {found}, or start a new log"
            )
        return found

    def _partitions(self) -> int | None:
        # All topics are asked for: asking for one by name makes some brokers create it, as they see fit.
        topic = self._asking.list_topics(timeout=self._timeout_s).topics.get(self._address.topic)
        if topic is None or topic.error is not None or any(part.leader < 0 for part in topic.partitions.values()):
            return None
        return len(topic.partitions) or None

    def _create_topic(self, partitions: int) -> None:
        new = NewTopic(
            self._address.topic, num_partitions=partitions, replication_factor=-1, config={"retention.ms": "-1"}
        )
        admin = AdminClient(self._settings())
        (created,) = admin.create_topics([new], operation_timeout=self._timeout_s).values()
        try:
            created.result(self._timeout_s)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _await_topic(self) -> int:
        give_up_at = time.monotonic() + self._timeout_s
        while (found := self._partitions()) is None:
            if time.monotonic() > give_up_at:
                raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE, "the topic has no leader yet"))
            time.sleep(POLL_S)
        return found

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """See :meth:`EventLog.append`."""
        positions: list[Position] = []
        for first in range(0, len(messages), APPEND_AT_ONCE):
            positions += self._append(messages[first : first + APPEND_AT_ONCE])
        return positions

    def _append(self, messages: Sequence[Message]) -> list[Position]:
        delivery, producer = Delivery(len(messages)), self._producer
        with self._reachable():
            try:
                for index, message in enumerate(messages):
                    self._send(producer, message, partial(delivery.report, index))
            except BufferError as error:
                raise Unavailable(f"{self._address}: too many messages wait for the brokers; try again") from error
            try:
                return delivery.wait(2 * self._timeout_s)
            except KafkaException as error:
                if error.args[0].fatal():
                    self._replace(producer)
                raise

    def _send(self, producer: Producer, message: Message, report: Any) -> None:
        producer.produce(
            self._address.topic,
            message.payload,
            message.key.encode(),
            partition_of(message.key, self.partitions),
            report,
            headers=[(MESSAGE_ID, message.message_id.encode()), (RECEIVED_MS, b"%d" % message.received_ms)],
        )

    def _replace(self, failed: Producer) -> None:
        """Start anew with another producer: one that has met a fatal error takes no more messages."""
        with self._choosing:
            if self._producer is failed:
                self._producer = self._new_producer()
        failed.purge()
        failed.flush(1)

    def _report(self) -> None:
        while not self._closing.is_set() or len(self._producer):
            self._producer.poll(0.1)

    def read(self, partition: int, *, offset: int, limit: int) -> list[Record]:
        """See :meth:`EventLog.read`. What the topic's retention has removed is left out."""
        self._check(partition)
        with self._reachable():
            cursor = self._cursor(partition, offset)
            end = cursor.known_end() if cursor is not None else -1
            if end < offset + limit:
                _, end = self._ends_of(partition)
            if offset >= end or limit < 1:
                return []
            cursor = cursor or self._new_cursor(partition)
            return cursor.read(offset, limit=limit, end=end)

    def _cursor(self, partition: int, offset: int) -> Cursor | None:
        """Return the cursor that stands at ``offset``, or else the one that was used least recently."""
        with self._choosing:
            cursors = self._cursors.get(partition, [])
            for cursor in cursors:
                if cursor.stands_at(offset):
                    cursors.remove(cursor)
                    cursors.append(cursor)
                    return cursor
            if len(cursors) < CURSORS:
                return None
            cursors.append(cursors.pop(0))
            return cursors[-1]

    def _new_cursor(self, partition: int) -> Cursor:
        consumer = Consumer(self._settings(**_READING_BY_DEFAULT) | _READING)
        start = lambda of: self._ends_of(of)[0]  # noqa: E731
        cursor = Cursor(consumer, self._address.topic, partition, start=start, timeout_s=self._timeout_s)
        with self._choosing:
            self._cursors.setdefault(partition, []).append(cursor)
        return cursor

    def end(self, partition: int) -> int:
        """See :meth:`EventLog.end`."""
        self._check(partition)
        with self._reachable():
            return self._ends_of(partition)[1]

    def _ends_of(self, partition: int) -> tuple[int, int]:
        """Return the first offset that a partition still has, and the one that its next message will get."""
        # Not through the admin client: with it, a broker that died in the middle ended the whole process (librdkafka).
        ends = self._asking.get_watermark_offsets(TopicPartition(self._address.topic, partition), self._timeout_s)
        if ends is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "no answer in time"))
        return int(ends[0]), int(ends[1])

    def positions(self, group: str) -> dict[int, int]:
        """See :meth:`EventLog.positions`."""
        with self._reachable():
            return self._group(group).positions(self.partitions)

    def set_position(self, group: str, partition: int, offset: int) -> None:
        """See :meth:`EventLog.set_position`. It is the group's committed offset, so Kafka's own tools show the lag."""
        self._check(partition)
        with self._reachable():
            self._group(group).set_position(partition, offset)

    def _group(self, name: str) -> Group:
        with self._choosing:
            if name not in self._groups:
                settings = self._settings() | _READING | {"group.id": name}
                self._groups[name] = Group(settings, self._address.topic, timeout_s=self._timeout_s)
            return self._groups[name]

    def wait(self, seen: Mapping[int, int], timeout_s: float) -> bool:
        """See :meth:`EventLog.wait`."""
        give_up_at = time.monotonic() + timeout_s
        with self._reachable():
            waiting = [
                (self._cursor(partition, offset) or self._new_cursor(partition), offset)
                for partition, offset in seen.items()
            ]
            moved = not all(cursor.stands_at(offset) for cursor, offset in waiting)
            if moved and any(self._ends_of(partition)[1] > offset for partition, offset in seen.items()):
                return True
            # The cursors fetch by themselves: looking at what has come asks no broker.
            while not any(cursor.arrived(offset) for cursor, offset in waiting):
                left_s = give_up_at - time.monotonic()
                if left_s <= 0 or self._closing.wait(min(POLL_S, left_s)):
                    return False
        return True

    def close(self) -> None:
        """See :meth:`EventLog.close`."""
        with self._choosing:
            self._closing.set()
            cursors = [cursor for some in self._cursors.values() for cursor in some]
            opened: list[Cursor | Group] = [*cursors, *self._groups.values()]
            self._cursors, self._groups = {}, {}
        self._reporting.join()
        for one in opened:
            one.close()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """Turn what the client library says about brokers out of reach into :class:`Unavailable`."""
        if self._closing.is_set():
            raise Unavailable(f"{self._address}: this event log was closed; open it again")
        try:
            yield
            self._trouble = None
        except (KafkaException, TimeoutError) as error:
            self._asking.poll(0)
            advice = "check that the brokers run and let us in, and that the address names them"
            raise Unavailable(self._said(error, advice)) from error

    def _said(self, error: KafkaException | TimeoutError, advice: str) -> str:
        what = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        why = f" ({self._trouble})" if self._trouble else ""
        return self._address.without_secrets(f"{self._address}: {what}{why}; {advice}")

    def _note(self, error: KafkaError) -> None:
        """Remember why brokers cannot be reached: calls only say that they were not answered."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error.str()

    def _check(self, partition: int) -> None:
        if not 0 <= partition < self.partitions:
            raise ConfigError(f"partition: got {partition}, expected 0 to {self.partitions - 1} ({self._address})")
