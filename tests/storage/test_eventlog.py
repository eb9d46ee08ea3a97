"""The event log in SQLite keeps the contract, and is honest when it cannot write."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.errors import ConfigError, Unavailable
from bespoke.events import UserId
from storage.eventlog import EventLog, Message, open_event_log, partition_of
from storage.eventlog.sqlite import SqliteEventLog
from tests.contracts.eventlog import APPEND_FOREVER, EventLogContract, everything, message


class TestSqliteEventLog(EventLogContract):
    """The embedded log."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'log.db'}"

    def test_an_append_is_stored_whole_or_not_at_all(self, address: str, log: EventLog) -> None:
        command = [sys.executable, "-c", APPEND_FOREVER, address, "p"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        numbers = sorted(int(message_id.split("-")[1]) for _, message_id in everything(log))
        assert numbers == list(range(len(numbers)))
        assert len(numbers) % 3 == 0


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with closing(SqliteEventLog(tmp_path / "log.db", busy_timeout_s=30)) as opened:
        yield opened


def test_partitions_of_known_keys_never_change() -> None:
    keys = ["u1", "u2", "anonymous:a1", "élodie", "12345", ""]
    assert [partition_of(UserId(key), 4) for key in keys] == [2, 0, 3, 2, 0, 0]
    assert [partition_of(UserId(key), 7) for key in keys] == [5, 1, 6, 5, 1, 0]


def test_partitions_follow_the_published_check_value_of_crc_32() -> None:
    assert partition_of(UserId("123456789"), 1 << 32) == 0xCBF43926


def test_callers_that_come_while_one_writes_share_the_next_commit(log: SqliteEventLog, tmp_path: Path) -> None:
    commits: list[str] = []
    log._appender.set_trace_callback(lambda statement: commits.append(statement) if statement == "COMMIT" else None)
    with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        callers = [threading.Thread(target=log.append, args=([message("u1", str(n))],)) for n in range(10)]
        for caller in callers:
            caller.start()
        while len(log._queue) < 9:
            threading.Event().wait(0.001)
        other.execute("ROLLBACK")
    for caller in callers:
        caller.join()
    assert len(commits) == 2
    assert len(everything(log)) == 10


def test_everybody_in_a_failed_group_is_told_and_nothing_is_stored(log: SqliteEventLog) -> None:
    bad = Message(UserId("u1"), "bad", 2**70, b"")
    with pytest.raises(OverflowError):
        log.append([message("u1", "good"), bad])
    assert everything(log) == []
    assert log.append([message("u1", "next")])[0].offset == 0


def test_a_lock_held_past_the_timeout_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(SqliteEventLog(path, busy_timeout_s=0.02)) as log, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"log\.db: database is locked; another process has held it"):
            log.append([message("u1")])
        other.rollback()
        assert log.append([message("u1")])[0].offset == 0


def test_a_path_that_cannot_be_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"file/log\.db"):
        open_event_log(tmp_path / "file" / "log.db")


def test_a_file_of_another_kind_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_text("not a database, " * 100)
    with pytest.raises(Unavailable, match="file is not a database"):
        open_event_log(path)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a path, sqlite:///PATH or kafka://"):
        open_event_log("redis:///log")


def test_appends_are_synced_and_consumer_positions_are_not(log: SqliteEventLog) -> None:
    full, normal = 2, 1
    assert log._appender.execute("PRAGMA synchronous").fetchone() == (full,)
    assert log._reader.execute("PRAGMA synchronous").fetchone() == (normal,)
    assert log._appender.execute("PRAGMA journal_mode").fetchone() == ("wal",)
