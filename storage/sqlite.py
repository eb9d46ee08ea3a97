"""SQLite as the stores use it: write-ahead log, durable commits, one error for every way a file can be out of reach."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bespoke.errors import Unavailable

BUSY_TIMEOUT_S = 10.0
_RETRY_S = 0.0005

Synchronous = Literal["FULL", "NORMAL"]


def open_sqlite(
    path: Path, *, synchronous: Synchronous = "FULL", busy_timeout_s: float = BUSY_TIMEOUT_S
) -> sqlite3.Connection:
    """Open a file in write-ahead mode, creating it and its folder where they are missing.

    The connection commits by itself unless a transaction was begun, and may move between threads (one at a time).

    Args:
        path: the database file.
        synchronous: ``FULL`` syncs every commit before it returns; ``NORMAL`` may lose the last ones on power loss.
        busy_timeout_s: how long a call waits for a writer in another process.

    Raises:
        Unavailable: the file cannot be opened or written, or is no database.
    """
    with reachable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            # SQLite does not wait its busy timeout when several connections turn a fresh file to WAL at once.
            _retry_while_busy(connection, "PRAGMA journal_mode=WAL", give_up_at=time.monotonic() + busy_timeout_s)
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-32000")
        except BaseException:
            connection.close()
            raise
        return connection


def _retry_while_busy(connection: sqlite3.Connection, statement: str, *, give_up_at: float) -> None:
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= give_up_at:
                raise
            time.sleep(_RETRY_S)


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another connection's lock is what stood in the way."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def reachable(path: Path | str) -> Iterator[None]:
    """Turn what the file system and SQLite say about an unreachable file into :class:`Unavailable`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        if not _is_unreachable(error):
            raise
        raise Unavailable(f"{path}: {error}; {_way_out(error)}") from error


def _is_unreachable(error: OSError | sqlite3.Error) -> bool:
    # The bare DatabaseError is how the driver reports a file that is damaged or is no database at all.
    return isinstance(error, OSError | sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _way_out(error: OSError | sqlite3.Error) -> str:
    if isinstance(error, sqlite3.Error) and is_busy(error):
        return "another process has held it for longer than the timeout: try again, or end that process"
    return "check that the file is whole, that its folder can be written and that the disk has room"


def begin_immediate(connection: sqlite3.Connection, *, timeout_s: float) -> None:
    """Begin a write transaction as the only writer, waiting at most ``timeout_s`` for another one to end.

    A transaction that began as a reader could find at its first write that another writer went ahead, and fail.
    """
    give_up_at = time.monotonic() + timeout_s
    # SQLite's own waiting sleeps up to 100 ms between tries, and starves while other processes write busily.
    connection.execute("PRAGMA busy_timeout=0")
    try:
        _retry_while_busy(connection, "BEGIN IMMEDIATE", give_up_at=give_up_at)
    finally:
        connection.execute(f"PRAGMA busy_timeout={round(timeout_s * 1000)}")


@contextmanager
def writing(connection: sqlite3.Connection, path: Path, *, timeout_s: float) -> Iterator[sqlite3.Connection]:
    """Run one write transaction; on any exception nothing of it remains.

    Args:
        connection: where to write.
        path: its file, for the error message.
        timeout_s: how long to wait for another writer.

    Raises:
        Unavailable: the file is locked past the timeout or cannot be written.
    """
    with reachable(path):
        begin_immediate(connection, timeout_s=timeout_s)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
