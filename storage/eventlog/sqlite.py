"""The event log in one SQLite file: a table per partition, callers that come together share one sync to disk."""

import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bespoke.errors import ConfigError, Unavailable
from storage.eventlog.base import DEFAULT_PARTITIONS, EventLog, Message, Position, Record, partition_of
from storage.sqlite import BUSY_TIMEOUT_S, open_sqlite, reachable, writing

POLL_S = 0.005

_Row = tuple[int, str, int, bytes]


class _Pending:
    """One caller's messages on their way to disk, and what became of them."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.positions: list[Position] = []
        self.failure: BaseException | None = None
        self.done = False

    def result(self) -> list[Position]:
        if self.failure is not None:
            raise Unavailable(f"nothing was appended: {self.failure}") from self.failure
        return self.positions


class SqliteEventLog(EventLog):
    """A log in one file, for one machine.

    Group commit: the first caller to come writes at once; callers that come while it writes wait, and the first of
    them to wake writes for all. A lone caller waits for nobody, and a crowd pays for one sync together.
    """

    def __init__(self, path: Path, *, partitions: int | None = None, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the log at ``path``, creating it where it is missing.

        Args:
            path: the file.
            partitions: how many a new log gets (4 if None); an existing log must have that many.
            busy_timeout_s: how long a write waits for a writer in another process.

        Raises:
            ConfigError: the log has another number of partitions.
            Unavailable: the file cannot be opened.
        """
        self._path = path
        self._timeout_s = busy_timeout_s
        self._appender = open_sqlite(path, synchronous="FULL", busy_timeout_s=busy_timeout_s)
        # Consumer positions are written here too: they only inform, so they need no sync of their own.
        self._reader = open_sqlite(path, synchronous="NORMAL", busy_timeout_s=busy_timeout_s)
        self._reading = threading.Lock()
        self._turn = threading.Condition()
        self._queue: list[_Pending] = []
        self._leading = False
        self._closed = False
        try:
            self.partitions = self._create(partitions)
        except BaseException:
            self.close()
            raise

    def _create(self, wanted: int | None) -> int:
        if wanted is not None and wanted < 1:
            raise ConfigError(f"event log {self._path}: got {wanted} partitions, expected 1 or more")
        with writing(self._appender, self._path, timeout_s=self._timeout_s) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS partitions (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL)"
            )
            (found,) = connection.execute("SELECT count(*) FROM partitions").fetchone()
            if not found:
                found = wanted or DEFAULT_PARTITIONS
                _create_tables(connection, found)
        if wanted is not None and wanted != found:
            raise ConfigError(
                f"event log {self._path}: got {wanted} partitions, but it was created with {found} and keeps them; "
                f"ask for {found}, or start a new log"
            )
        return int(found)

    def append(self, messages: Sequence[Message]) -> list[Position]:
        """See :meth:`EventLog.append`."""
        if not messages:
            return []
        pending = _Pending(messages)
        with self._turn:
            self._queue.append(pending)
            self._turn.wait_for(lambda: pending.done or not self._leading)
            if pending.done:
                return pending.result()
            group, self._queue, self._leading = self._queue, [], True
        self._lead(group)
        return pending.positions

    def _lead(self, group: list[_Pending]) -> None:
        try:
            self._write(group)
        except BaseException as error:
            for pending in group:
                pending.failure = error
            raise
        finally:
            with self._turn:
                for pending in group:
                    pending.done = True
                self._leading = False
                self._turn.notify_all()

    def _write(self, group: list[_Pending]) -> None:
        self._check_open()
        with writing(self._appender, self._path, timeout_s=self._timeout_s) as connection:
            ends = dict(connection.execute("SELECT partition, next_offset FROM partitions"))
            rows = self._placed(group, ends)
            for partition, added in rows.items():
                connection.executemany(f"INSERT INTO messages_{partition} VALUES (?, ?, ?, ?)", added)
            connection.executemany(
                "UPDATE partitions SET next_offset = ? WHERE partition = ?", [(ends[p], p) for p in rows]
            )

    def _placed(self, group: list[_Pending], ends: dict[int, int]) -> Mapping[int, list[_Row]]:
        """Give every message its position; moves ``ends`` along."""
        rows: dict[int, list[_Row]] = defaultdict(list)
        for pending in group:
            for message in pending.messages:
                partition = partition_of(message.key, self.partitions)
                offset = ends[partition]
                ends[partition] = offset + 1
                rows[partition].append((offset, message.message_id, message.received_ms, message.payload))
                pending.positions.append(Position(partition, offset))
        return rows

    def read(self, partition: int, *, offset: int, limit: int) -> list[Record]:
        """See :meth:`EventLog.read`."""
        self._check(partition)
        rows = self._select(
            f"SELECT offset, message_id, received_ms, payload FROM messages_{partition} "
            "WHERE offset >= ? ORDER BY offset LIMIT ?",
            (offset, limit),
        )
        return [Record(Position(partition, at), message_id, ms, payload) for at, message_id, ms, payload in rows]

    def end(self, partition: int) -> int:
        """See :meth:`EventLog.end`."""
        self._check(partition)
        return self._ends()[partition]

    def positions(self, group: str) -> dict[int, int]:
        """See :meth:`EventLog.positions`."""
        said = self._select('SELECT partition, offset FROM positions WHERE "group" = ?', (group,))
        return {partition: 0 for partition in range(self.partitions)} | dict(said)

    def set_position(self, group: str, partition: int, offset: int) -> None:
        """See :meth:`EventLog.set_position`."""
        self._check(partition)
        self._select("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", (group, partition, offset))

    def wait(self, seen: Mapping[int, int], timeout_s: float) -> bool:
        """See :meth:`EventLog.wait`."""
        give_up_at = time.monotonic() + timeout_s
        version = None
        while not self._closed:
            # Changes with every commit of another connection, and costs far less to ask than the ends.
            ((latest,),) = self._select("PRAGMA data_version")
            if latest != version:
                version, ends = latest, self._ends()
                if any(ends[partition] > offset for partition, offset in seen.items()):
                    return True
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(POLL_S, left_s))
        return False

    def close(self) -> None:
        """See :meth:`EventLog.close`."""
        with self._turn:
            self._closed = True
            self._turn.wait_for(lambda: not self._leading)
            self._appender.close()
        with self._reading:
            self._reader.close()

    def _ends(self) -> dict[int, int]:
        return dict(self._select("SELECT partition, next_offset FROM partitions"))

    def _select(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._reading, reachable(self._path):
            self._check_open()
            return self._reader.execute(statement, values).fetchall()

    def _check(self, partition: int) -> None:
        if not 0 <= partition < self.partitions:
            raise ConfigError(f"partition: got {partition}, expected 0 to {self.partitions - 1} ({self._path})")

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"{self._path}: this event log was closed; open it again")


def _create_tables(connection: sqlite3.Connection, partitions: int) -> None:
    connection.execute(
        'CREATE TABLE positions ("group" TEXT, partition INTEGER, offset INTEGER NOT NULL, '
        'PRIMARY KEY ("group", partition)) WITHOUT ROWID'
    )
    for partition in range(partitions):
        connection.execute("INSERT INTO partitions VALUES (?, 0)", (partition,))
        # A table each, keyed by offset: every append then goes to the end of a tree, which fills its pages.
        connection.execute(
            f"CREATE TABLE messages_{partition} (offset INTEGER PRIMARY KEY, message_id TEXT NOT NULL, "
            "received_ms INTEGER NOT NULL, payload BLOB NOT NULL)"
        )
