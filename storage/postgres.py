"""PostgreSQL as the stores use it: timeouts, connections that come back by themselves, one error when out of reach."""

from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, text
from sqlalchemy.engine import URL

from bespoke.errors import Unavailable

STATEMENT_TIMEOUT_S = 300
_CREATING = 0x62657370
"""Key of the lock under which tables are created."""
_UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    # Such as a server that takes no writes since another one was made the primary.
    psycopg.InternalError,
    psycopg.errors.InsufficientPrivilege,
)
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected)


def postgres_engine(url: URL, busy_timeout_s: float) -> Engine:
    """Return the engine of a PostgreSQL database; nothing is connected yet.

    A write transaction reads what is committed at each of its statements, so what it decides on must be locked or
    repeated as a condition of its update. A read transaction sees one state throughout.

    Args:
        url: where the database is; parameters of libpq, such as ``sslmode``, in its query.
        busy_timeout_s: how long a write waits for a lock, and anything for a connection.
    """
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        # Values are personal data, and errors reach logs.
        hide_parameters=True,
        # Asks a pooled connection whether it is alive: one that a restart has cut is replaced without an error.
        pool_pre_ping=True,
        pool_timeout=busy_timeout_s,
        connect_args=_liveness(busy_timeout_s) | dict(url.query),
    )
    timeouts = {
        "lock_timeout": round(busy_timeout_s * 1000),
        "statement_timeout": STATEMENT_TIMEOUT_S * 1000,
        "idle_in_transaction_session_timeout": STATEMENT_TIMEOUT_S * 1000,
    }

    @event.listens_for(engine, "connect")
    def connect(driver: Any, _: object) -> None:
        for name, milliseconds in timeouts.items():
            driver.execute(f"SET {name} = {milliseconds}")
        driver.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes"):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        elif not options["durable"]:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    return engine


def _liveness(timeout_s: float) -> dict[str, int]:
    """Return the parameters of libpq that notice a peer that has gone without a word."""
    return {
        "connect_timeout": max(2, round(timeout_s)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }


def create_tables(connection: Connection, metadata: MetaData) -> None:
    """Create the tables that are missing; of several processes that open a fresh database, one at a time."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATING})
    metadata.create_all(connection)


def take_turns(connection: Connection, subject: str) -> None:
    """Have the transactions that decide on the same subject run one after the other."""
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:subject, 0))"), {"subject": subject})


def unavailable(error: BaseException | None, engine: Engine) -> Unavailable | None:
    """Return what to raise for a driver's error that says that the database is out of reach; None for any other."""
    if not isinstance(error, _UNREACHABLE):
        return None
    # Neither password nor parameters, which may hold another one; the first line, for details name values.
    where = engine.url.set(query={}).render_as_string(hide_password=True)
    said = (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0]
    return Unavailable(f"{where}: {said}; {_way_out(error)}")


def _way_out(error: psycopg.Error) -> str:
    if isinstance(error, _BUSY):
        return "another transaction has held what this one needs: try again, or end that one"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return "grant this user CREATE on the schema, or have the tables created by one who may"
    return "check that the server runs, that it can be reached from here and that it lets this user in"
