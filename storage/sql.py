"""SQLAlchemy engines as the stores use them: write transactions, durable commits, one error when out of reach."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.dml import Insert

from bespoke.errors import BespokeError, ConfigError, Unavailable, shown
from storage.sqlite import BUSY_TIMEOUT_S, begin_immediate, open_sqlite, reachable

_ADDRESSES = "sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"


class Superseded(BespokeError):
    """Another writer went ahead, so what this one was about to write no longer follows from what is stored."""


def open_engine(address: str, metadata: MetaData, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Engine:
    """Open a database and create the tables that it lacks.

    Args:
        address: an SQLAlchemy address such as ``sqlite:///var/profiles.db`` or
            ``postgresql+psycopg://USER:PASSWORD@HOST/DATABASE``.
        metadata: the tables.
        busy_timeout_s: how long a write waits for a writer in another process.

    Raises:
        ConfigError: no engine is known for such an address.
        Unavailable: the database cannot be reached.
    """
    engine = _engine(address, busy_timeout_s)
    try:
        with writing(engine) as connection:
            # In one transaction: of several processes that open a fresh database, one creates, and nobody sees half.
            if engine.dialect.name == "postgresql":
                from storage.postgres import create_tables

                create_tables(connection, metadata)
            else:
                metadata.create_all(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _engine(address: str, busy_timeout_s: float) -> Engine:
    scheme, _, path = address.partition(":///")
    if scheme == "sqlite" and path not in ("", ":memory:"):
        return _sqlite_engine(Path(path), busy_timeout_s)
    if scheme.partition(":")[0] not in ("postgresql", "postgresql+psycopg"):
        # The address itself is not repeated: it may hold a password.
        raise ConfigError(f"database: got an address of {shown(address.partition(':')[0])}, expected {_ADDRESSES}")
    # Imported where it is used: the embedded stores need no driver.
    from storage.postgres import postgres_engine

    try:
        return postgres_engine(make_url(address), busy_timeout_s)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"database: a PostgreSQL address that cannot be read, expected {_ADDRESSES}") from error


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

    One exception to that: where the connection to a server breaks during the commit itself, the transaction stands
    whole or not at all, and nobody here can tell which.

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
def driver_reading(engine: Engine) -> Iterator[sqlite3.Connection]:
    """Lend the driver's own connection to an SQLite database, for one query that is asked often.

    Raises:
        Unavailable: the database cannot be read.
    """
    with _reachable(engine):
        lent = engine.raw_connection()
        try:
            driver = lent.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            yield driver
        finally:
            lent.close()


@contextmanager
def _reachable(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        with reachable(str(engine.url.database)):
            try:
                yield
            except DBAPIError as error:
                raise (error.orig if isinstance(error.orig, sqlite3.Error) else error) from error
        return
    from storage.postgres import unavailable

    try:
        yield
    except DBAPIError as error:
        raise (unavailable(error.orig, engine) or error) from error
    except PoolTimeout as error:
        raise Unavailable(f"{engine.url.host}: every connection is in use; try again") from error


def take_turns(connection: Connection, subject: str) -> None:
    """Have write transactions that read what they then decide on run one after the other, by subject.

    SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "postgresql":
        from storage import postgres

        postgres.take_turns(connection, subject)


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
