"""The event log in Kafka keeps the contract, moves about in its topic, and is honest when no broker answers."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from bespoke.errors import ConfigError, Unavailable
from bespoke.events import UserId
from storage.eventlog import Message, open_event_log, partition_of
from storage.eventlog.kafka import KafkaEventLog
from storage.eventlog.kafka_address import KafkaAddress
from storage.eventlog.kafka_cursor import Cursor
from tests.contracts.eventlog import EventLogContract, everything, message
from tests.support.servers import free_port, kafka_url, running_kafka

_numbers = itertools.count()


@pytest.fixture
def address(kafka_server: str) -> str:
    return kafka_url(kafka_server, f"events-{next(_numbers)}")


@pytest.fixture
def log(address: str) -> Iterator[KafkaEventLog]:
    with closing(KafkaEventLog(address)) as opened:
        yield opened


class TestKafkaEventLog(EventLogContract):
    """The log on several machines."""

    @pytest.fixture
    def address(self, kafka_server: str) -> str:
        return kafka_url(kafka_server, f"events-{next(_numbers)}")


def fill(log: KafkaEventLog, count: int) -> int:
    """Append messages called 0, 1, ... of one key; return their partition."""
    log.append([message("u1", str(n)) for n in range(count)])
    return partition_of(UserId("u1"), log.partitions)


def test_any_order_of_reads_gives_what_stands_there(log: KafkaEventLog) -> None:
    partition, choose = fill(log, 300), random.Random(7)
    for _ in range(15):
        offset, limit = choose.randrange(320), choose.randrange(1, 50)
        read = [int(record.message_id) for record in log.read(partition, offset=offset, limit=limit)]
        assert read == list(range(offset, min(offset + limit, 300)))


def test_two_readers_of_one_partition_go_on_side_by_side(log: KafkaEventLog) -> None:
    partition = fill(log, 200)
    for n in range(0, 100, 10):
        near, far = (log.read(partition, offset=at, limit=10) for at in (n, n + 100))
        assert [record.position.offset for record in (*near, *far)] == [*range(n, n + 10), *range(n + 100, n + 110)]
    assert len(log._cursors[partition]) == 2


@pytest.mark.parametrize("headers", [[], [("messageId", b"\0"), ("received_ms", b"-")], [("messageId", None)]])
def test_messages_of_others_without_our_headers_are_known_by_their_place(
    kafka_server: str, log: KafkaEventLog, headers: list[tuple[str, str | bytes | None]]
) -> None:
    producer = Producer({"bootstrap.servers": kafka_server})
    producer.produce(log._address.topic, b"{}", partition=3, headers=headers)
    producer.flush()
    (record,) = log.read(3, offset=0, limit=9)
    assert (record.message_id, record.payload) == ("3.0", b"{}")
    assert record.received_ms > 0


def test_what_the_topic_has_removed_is_left_out(kafka_server: str, log: KafkaEventLog) -> None:
    partition = fill(log, 20)
    consumer = Consumer({"bootstrap.servers": kafka_server, "group.id": "test", "enable.partition.eof": True})
    cursor = Cursor(consumer, log._address.topic, partition, start=lambda _: 15, timeout_s=30)
    assert [record.position.offset for record in cursor.read(3, limit=99, end=20)] == list(range(15, 20))
    assert cursor.stands_at(20)
    cursor.close()


def test_many_open_a_missing_topic_at_once_and_one_creates_it(address: str) -> None:
    logs: list[KafkaEventLog] = []
    opening = [threading.Thread(target=lambda: logs.append(KafkaEventLog(address, partitions=3))) for _ in range(5)]
    for thread in opening:
        thread.start()
    for thread in opening:
        thread.join()
    assert [log.partitions for log in logs] == [3] * 5
    for log in logs:
        log.close()


def test_a_topic_that_was_made_by_others_is_taken_as_it_is(kafka_server: str) -> None:
    topic = f"made-before-{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": kafka_server})
    admin.create_topics([NewTopic(topic, num_partitions=2)])[topic].result(30)
    with closing(open_event_log(f"kafka://{kafka_server}/{topic}")) as log:
        assert log.partitions == 2


def test_a_large_append_in_batches_keeps_its_order(kafka_server: str) -> None:
    with closing(KafkaEventLog(f"kafka://{kafka_server}/large-{next(_numbers)}")) as log:
        positions = log.append([message("u1", str(n)) for n in range(45_000)])
        assert [position.offset for position in positions] == list(range(45_000))
        read = [record.message_id for record in log.read(positions[0].partition, offset=0, limit=20_000)]
        assert read == [str(n) for n in range(20_000)]


def test_no_broker_is_unavailable_and_says_why() -> None:
    with pytest.raises(Unavailable, match=r"kafka://127\.0\.0\.1:\d+/events: .*; check that the brokers run"):
        KafkaEventLog(f"kafka://127.0.0.1:{free_port()}/events", timeout_s=0.5)


def test_a_broker_that_dies_is_unavailable_to_every_call() -> None:
    with running_kafka() as broker, closing(KafkaEventLog(kafka_url(broker.address, "events"), timeout_s=2.0)) as log:
        log.append([message("u1", "m1")])
        broker.stop()
        for call in (
            lambda: log.append([message("u1", "m2")]),
            lambda: log.read(2, offset=0, limit=1),
            lambda: log.end(0),
            lambda: log.positions("features"),
            lambda: log.set_position("features", 0, 1),
        ):
            with pytest.raises(Unavailable, match=rf"kafka://{broker.address}/events: .*; check that the brokers run"):
                call()
        broker.start()
        # This broker forgets when it ends: what comes back is an empty one.
        with closing(KafkaEventLog(kafka_url(broker.address, "events"))) as fresh:
            assert everything(fresh) == []
            fresh.append([message("u1", "m3")])
            assert [message_id for _, message_id in everything(fresh)] == ["m3"]


def test_an_address_gives_brokers_topic_and_settings_and_shows_no_secret() -> None:
    address = KafkaAddress.parse(
        "kafka://a:9092,b.c:9093/shop.events?security.protocol=SASL_SSL&sasl.username=u&sasl.password=s%2B3cret"
    )
    assert (address.servers, address.topic) == ("a:9092,b.c:9093", "shop.events")
    assert address.settings == {"security.protocol": "SASL_SSL", "sasl.username": "u", "sasl.password": "s+3cret"}
    assert "s+3cret" not in f"{address} {address!r} {address.without_secrets('x s+3cret')}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("kafka://a:1", "expected kafka://HOST:PORT"),
        ("kafka://a/t", "expected kafka://HOST:PORT"),
        ("kafka://a:1/t/u", "expected kafka://HOST:PORT"),
        ("kafka://a:1/t?acks=1", "acks cannot be set"),
        ("kafka://a:1/t?no.such=1", "No such configuration property"),
        ("kafka://a:1/t?sasl.mechanism=PLAIN&sasl.password=geheim&socket.timeout.ms=geheim", "socket.timeout.ms"),
        ("kafka://ada:geheim@a:1/t", "takes no user before its hosts"),
    ],
)
def test_a_wrong_address_is_refused_without_showing_secrets(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        open_event_log(address)
    assert "geheim" not in str(raised.value)


def test_a_wrong_password_never_shows(kafka_server: str) -> None:
    settings = "security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN&sasl.username=ada&sasl.password=geheim"
    with pytest.raises(Unavailable) as raised:
        KafkaEventLog(f"kafka://{kafka_server}/events?{settings}", timeout_s=0.5)
    assert "geheim" not in str(raised.value)


def test_a_producer_that_failed_for_good_is_replaced_once(log: KafkaEventLog) -> None:
    log.append([message("u1", "m1")])
    failed = log._producer
    log._replace(failed)
    replaced = log._producer
    log._replace(failed)
    assert failed is not replaced is log._producer
    log.append([message("u1", "m2")])
    assert [message_id for _, message_id in everything(log)] == ["m1", "m2"]


def test_an_append_that_was_acknowledged_once_can_be_repeated(log: KafkaEventLog) -> None:
    sent = Message(UserId("u1"), "m1", 1, b"")
    assert [log.append([sent])[0].offset for _ in range(2)] == [0, 1]
