"""What every event log promises; a new engine subclasses :class:`EventLogContract` and gives an address."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bespoke.errors import ConfigError, Unavailable
from bespoke.events import UserId
from storage.eventlog import EventLog, Message, Position, open_event_log, partition_of

OpenLog = Callable[..., EventLog]

# Appends messages named by its second argument until it is killed, and tells each one that was acknowledged.
APPEND_FOREVER = """
import sys
from storage.eventlog import Message, open_event_log
log, n = open_event_log(sys.argv[1]), 0
while True:
    names = [f"{sys.argv[2]}-{n + i}" for i in range(3)]
    log.append([Message(name, name, n, name.encode()) for name in names])
    n += 3
    print(*names, flush=True)
"""
APPEND_200 = """
import sys
from storage.eventlog import Message, open_event_log
log = open_event_log(sys.argv[1])
for n in range(200):
    name = f"{sys.argv[2]}-{n}"
    log.append([Message(name, name, n, name.encode())])
log.close()
"""


def message(key: str, message_id: str = "m", payload: bytes = b"{}") -> Message:
    """Return a message."""
    return Message(UserId(key), message_id, 1_000, payload)


def everything(log: EventLog) -> list[tuple[Position, str]]:
    """Return every position and messageId, after checking that no offset is missing."""
    found = []
    for partition in range(log.partitions):
        records = log.read(partition, offset=0, limit=1_000_000)
        assert [record.position.offset for record in records] == list(range(log.end(partition)))
        found += [(record.position, record.message_id) for record in records]
    return found


class EventLogContract:
    """Subclasses give the fixture ``address``: where a log can be created."""

    @pytest.fixture
    def address(self) -> str:
        """Return the address of a log that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def open_log(self, address: str) -> Iterator[OpenLog]:
        """Return what opens the log; everything that it opened is closed at the end."""
        opened: list[EventLog] = []

        def open_one(partitions: int | None = None) -> EventLog:
            opened.append(open_event_log(address, partitions))
            return opened[-1]

        yield open_one
        for log in opened:
            log.close()

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        """Return an empty log."""
        return open_log()

    def test_messages_are_read_back_as_they_were_appended(self, log: EventLog) -> None:
        sent = Message(UserId("u1"), "m1", 1_234, b'{"a": "\xc3\xa9\x00"}')
        (position,) = log.append([sent])
        (record,) = log.read(position.partition, offset=0, limit=10)
        assert (record.position, record.message_id, record.received_ms) == (position, "m1", 1_234)
        assert record.payload == sent.payload

    def test_positions_follow_the_order_given_and_the_keys(self, log: EventLog) -> None:
        keys = [f"u{n}" for n in range(100)]
        positions = log.append([message(key) for key in keys])
        assert [position.partition for position in positions] == [partition_of(UserId(key), 4) for key in keys]
        assert sorted(positions) == [Position(p, n) for p in range(4) for n in range(log.end(p))]

    def test_messages_of_one_key_keep_their_order(self, log: EventLog) -> None:
        for n in range(5):
            log.append([message("u1", f"{n}-{i}") for i in range(3)])
        read = [message_id for _, message_id in everything(log)]
        assert read == [f"{n}-{i}" for n in range(5) for i in range(3)]

    def test_an_end_is_the_next_offset(self, log: EventLog) -> None:
        partition = partition_of(UserId("u1"), 4)
        assert log.end(partition) == 0
        (position,) = log.append([message("u1")])
        assert (position.offset, log.end(partition)) == (0, 1)

    def test_reading_starts_at_the_offset_and_ends_at_the_limit(self, log: EventLog) -> None:
        partition = log.append([message("u1", str(n)) for n in range(10)])[0].partition
        assert [record.message_id for record in log.read(partition, offset=3, limit=4)] == ["3", "4", "5", "6"]
        assert log.read(partition, offset=10, limit=4) == []

    def test_appending_nothing_does_nothing(self, log: EventLog) -> None:
        assert log.append([]) == []
        assert everything(log) == []

    def test_messages_survive_reopening(self, open_log: OpenLog) -> None:
        log = open_log()
        log.append([message("u1", "m1")])
        log.close()
        assert [message_id for _, message_id in everything(open_log())] == ["m1"]

    def test_what_one_handle_appends_another_reads(self, open_log: OpenLog) -> None:
        one, other = open_log(), open_log()
        one.append([message("u1", "m1")])
        other.append([message("u1", "m2")])
        assert [message_id for _, message_id in everything(one)] == ["m1", "m2"]

    def test_threads_that_append_together_never_collide(self, log: EventLog) -> None:
        def work(worker: int) -> list[Position]:
            return [log.append([message(f"u{n}", f"{worker}-{n}")])[0] for n in range(40)]

        with ThreadPoolExecutor(8) as pool:
            positions = [position for some in pool.map(work, range(8)) for position in some]
        assert sorted(positions) == sorted(position for position, _ in everything(log))
        assert len(set(positions)) == 320

    def test_processes_that_append_together_never_collide(self, address: str, log: EventLog) -> None:
        running = [subprocess.Popen([sys.executable, "-c", APPEND_200, address, f"p{n}"]) for n in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]
        counts = Counter(message_id for _, message_id in everything(log))
        assert counts == {f"p{p}-{n}": 1 for p in range(3) for n in range(200)}

    def test_acknowledged_messages_survive_killed_writers(self, address: str, log: EventLog) -> None:
        acknowledged: list[str] = []
        for n in range(3):
            command = [sys.executable, "-c", APPEND_FOREVER, address, f"p{n}"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                acknowledged += [name for _ in range(20 + n) for name in process.stdout.readline().split()]
                process.kill()
        stored = [message_id for _, message_id in everything(log)]
        assert len(stored) == len(set(stored))
        assert set(acknowledged) <= set(stored)

    def test_a_log_goes_on_after_a_killed_writer(self, address: str, log: EventLog) -> None:
        command = [sys.executable, "-c", APPEND_FOREVER, address, "p"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        before = len(everything(log))
        log.append([message("u1", "after")])
        assert len(everything(log)) == before + 1

    def test_waiting_ends_at_once_when_something_is_there(self, log: EventLog) -> None:
        (position,) = log.append([message("u1")])
        assert log.wait({position.partition: 0}, timeout_s=60)

    def test_waiting_ends_when_another_handle_appends(self, open_log: OpenLog) -> None:
        reader, writer = open_log(), open_log()
        found: list[bool] = []
        waiting = threading.Thread(target=lambda: found.append(reader.wait(dict.fromkeys(range(4), 0), timeout_s=60)))
        waiting.start()
        writer.append([message("u1")])
        waiting.join(30)
        assert found == [True]

    def test_waiting_for_nothing_ends_with_the_timeout(self, log: EventLog) -> None:
        (position,) = log.append([message("u1")])
        assert not log.wait({position.partition: 1}, timeout_s=0.02)

    def test_waiting_ignores_partitions_that_are_not_named(self, log: EventLog) -> None:
        (position,) = log.append([message("u1")])
        assert not log.wait({(position.partition + 1) % 4: 0}, timeout_s=0.02)

    def test_a_group_starts_at_zero_everywhere(self, log: EventLog) -> None:
        assert log.positions("features") == {0: 0, 1: 0, 2: 0, 3: 0}

    def test_positions_of_groups_are_kept_apart_and_survive_reopening(self, open_log: OpenLog) -> None:
        log = open_log()
        log.set_position("features", 1, 5)
        log.set_position("features", 1, 7)
        log.set_position("lake", 2, 3)
        log.close()
        again = open_log()
        assert again.positions("features") == {0: 0, 1: 7, 2: 0, 3: 0}
        assert again.positions("lake") == {0: 0, 1: 0, 2: 3, 3: 0}

    def test_the_number_of_partitions_is_kept(self, open_log: OpenLog) -> None:
        open_log(7).close()
        assert open_log().partitions == 7
        assert open_log(7).partitions == 7

    def test_another_number_of_partitions_is_refused(self, open_log: OpenLog) -> None:
        open_log(2)
        with pytest.raises(ConfigError, match="got 3 partitions, but it was created with 2"):
            open_log(3)

    @pytest.mark.parametrize("partitions", [0, -1])
    def test_fewer_than_one_partition_is_refused(self, open_log: OpenLog, partitions: int) -> None:
        with pytest.raises(ConfigError, match="expected 1 or more"):
            open_log(partitions)

    def test_a_partition_that_does_not_exist_is_refused(self, log: EventLog) -> None:
        with pytest.raises(ConfigError, match="got 4, expected 0 to 3"):
            log.read(4, offset=0, limit=1)

    def test_a_closed_log_says_so(self, open_log: OpenLog) -> None:
        log = open_log()
        log.close()
        log.close()
        with pytest.raises(Unavailable, match="closed"):
            log.append([message("u1")])
        with pytest.raises(Unavailable, match="closed"):
            log.read(0, offset=0, limit=1)
