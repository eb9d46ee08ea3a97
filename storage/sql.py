"""SQLAlchemy engines as the stores use them: write transactions, durable commits, one error when out of reach."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import Insert

from bespoke.errors import BespokeError, ConfigError, Unavailable
from storage.sqlite import BUSY_TIMEOUT_S, begin_immediate, open_sqlite, reachable


class Superseded(BespokeError):
    """Another writer went ahead, so what this one was about to write no longer follows from what is stored."""


def open_engine(address: str, metadata: MetaData, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Open a database and create the tables that it lacks.

    Args:
        address: an SQLAlchemy address such as ``sqlite:///var/profiles.db``.
        metadata: the tables.
        busy_timeout_s: how long a write waits for a writer in another process.

    Raises:
        ConfigError: no engine is known for such an address.
        Unavailable: the database cannot be reached.
    """
    scheme, _, path = address.partition(":///")
    if scheme != "sqlite" or path in ("", ":memory:"):
        raise ConfigError(f"database: got {address!r}, expected sqlite:///PATH")
    engine = _sqlite_engine(Path(path), busy_timeout_s)
    try:
        with writing(engine) as connection:
            # In one transaction: of several processes that open a fresh file, one creates, and nobody sees half of it.
            metadata.create_all(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _sqlite_engine(path: Path, busy_timeout_s: float) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        creator=lambda: open_sqlite(path, busy_timeout_s=busy_timeout_s),
        # Values are personal data, and errors reach logs.
        hide_parameters=True,
        max_overflow=-1,  # A connection is a file handle: no thread should wait for another's.
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        options = connection.get_execution_options()
        if options.get("writes"):
            driver.execute(f"PRAGMA synchronous={'FULL' if options['durable'] else 'NORMAL'}")
            begin_immediate(driver, timeout_s=busy_timeout_s)
        else:
            driver.execute("BEGIN")

    return engine


@contextmanager
def writing(engine: Engine, *, durable: bool = True) -> Iterator[Connection]:
    """Run one write transaction; on any exception nothing of it remains.

    Args:
        engine: where to write.
        durable: have it on disk before this returns; without, a power cut may take the last transactions back, and
            never one without all that came after it.

    Raises:
        Unavailable: the database is locked past the timeout or cannot be written.
    """
    with _reachable(engine), engine.execution_options(writes=True, durable=durable).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run one read transaction: every query in it sees the same state.

    Raises:
        Unavailable: the database cannot be read.
    """
    with _reachable(engine), engine.begin() as connection:
        yield connection


@contextmanager
def _reachable(engine: Engine) -> Iterator[None]:
    with reachable(str(engine.url.database)):
        try:
            yield
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise Unavailable(f"{engine.url.render_as_string()}: {error.orig}") from error


def upsert(engine: Engine, table: Table, *, update: Sequence[str]) -> Insert:
    """Return the statement that inserts rows into ``table``, or sets the columns ``update`` where the key exists.

    With no columns to update, an existing row stays as it is.
    """
    dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name]
    statement: Any = dialect.insert(table)
    keys = list(table.primary_key.columns)
    if not update:
        unchanged: Insert = statement.on_conflict_do_nothing(index_elements=keys)
        return unchanged
    columns = {name: statement.excluded[name] for name in update}
    changed: Insert = statement.on_conflict_do_update(index_elements=keys, set_=columns)
    return changed
