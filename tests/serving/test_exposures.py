"""Exposures: written beside the answers, kept while the log is away, counted."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from bespoke.events import UserId
from serving.exposures import ExposureWriter
from storage.eventlog import Message, Position, open_event_log
from storage.eventlog.sqlite import SqliteEventLog


def message(n: int) -> Message:
    """Return the n-th exposure."""
    return Message(UserId(f"u{n}"), f"m{n}", n, b"{}")


def ids_in(path: Path) -> list[str]:
    """Return the messageIds that the log at ``path`` holds, sorted."""
    log = open_event_log(path)
    found = [r.message_id for p in range(log.partitions) for r in log.read(p, offset=0, limit=10_000)]
    log.close()
    return sorted(found)


class AbsentLog(SqliteEventLog):
    """A log that cannot be written until it is back."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.tried, self.back = threading.Semaphore(0), False

    def append(self, messages: Sequence[Message]) -> list[Position]:
        self.tried.release()
        if not self.back:
            raise Unavailable("gone")
        return super().append(messages)


def test_everything_put_is_written_by_close(tmp_path: Path) -> None:
    log = open_event_log(tmp_path / "log.db")
    writer = ExposureWriter(log)
    writer.start()
    for n in range(2_500):
        writer.put(message(n))
    writer.close()
    log.close()
    assert (writer.counts.written, writer.counts.dropped, writer.counts.waiting) == (2_500, 0, 0)
    assert ids_in(tmp_path / "log.db") == sorted(f"m{n}" for n in range(2_500))


def test_exposures_wait_in_order_while_the_log_is_away(tmp_path: Path) -> None:
    log = AbsentLog(tmp_path / "log.db")
    writer = ExposureWriter(log, interval_s=0.001)
    writer.start()
    for n in range(3):
        writer.put(message(n))
        assert log.tried.acquire(timeout=10)
    log.back = True
    writer.close()
    log.close()
    assert writer.counts.written == 3
    assert ids_in(tmp_path / "log.db") == ["m0", "m1", "m2"]


@pytest.mark.parametrize("back", [True, False])
def test_past_capacity_the_oldest_are_dropped_and_counted(tmp_path: Path, back: bool) -> None:
    log = AbsentLog(tmp_path / "log.db")
    writer = ExposureWriter(log, capacity=10, interval_s=60)
    for n in range(15):
        writer.put(message(n))
    log.back = back
    writer.close()
    log.close()
    assert (writer.counts.written, writer.counts.dropped) == ((10, 5) if back else (0, 15))
    assert ids_in(tmp_path / "log.db") == (sorted(f"m{n}" for n in range(5, 15)) if back else [])
