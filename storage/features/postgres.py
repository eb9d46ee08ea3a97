"""Online rows in the table that Feast keeps in PostgreSQL: one record per person and column."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from bespoke.clock import from_ms
from storage.features.address import TIMEOUT_S, PostgresAddress
from storage.features.encoding import EncodedState
from storage.features.rows import newer

if TYPE_CHECKING:
    from psycopg import Connection

T = TypeVar("T")

_WRITERS = 0x62657370
"""Names the lock that lets one writer at a time in: two that write the same people in different order would deadlock,
and a row could change between the look at its version and the write."""


class PostgresRows:
    """One table. Connections are kept and shared; one that a restart of the server broke is replaced.

    Feast's own store keeps a single connection for good, or a pool that loses one at every failure.
    """

    def __init__(self, address: PostgresAddress, *, table: str) -> None:
        from psycopg import sql

        self._address = address
        self._idle: list[Connection[Any]] = []
        name = sql.Identifier(address.schema, table)
        self._select = sql.SQL(
            "SELECT entity_key, feature_name, value FROM {} WHERE entity_key = ANY(%b) AND feature_name = ANY(%s)"
        ).format(name)
        self._upsert = sql.SQL(
            "INSERT INTO {} (entity_key, feature_name, value, event_ts) "
            "SELECT * FROM unnest(%b::bytea[], %s::text[], %b::bytea[], %s::timestamptz[]) "
            "ON CONFLICT (entity_key, feature_name) DO UPDATE "
            "SET value = excluded.value, value_text = NULL, event_ts = excluded.event_ts"
        ).format(name)

    def read(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]]:
        return self._once_more(lambda connection: self._read(connection, keys, columns))

    def read_at_once(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]] | None:
        return None

    def _read(
        self, connection: "Connection[Any]", keys: Sequence[bytes], columns: Sequence[str]
    ) -> list[Mapping[str, bytes]]:
        found: dict[bytes, dict[str, bytes]] = {key: {} for key in keys}
        rows = connection.execute(self._select, (list(keys), list(columns)), binary=True)
        for key, name, value in rows:
            found[key][name] = value
        return [found[key] for key in keys]

    def write(self, rows: Sequence[EncodedState]) -> None:
        def write(connection: "Connection[Any]") -> None:
            with self._writing(connection):
                self._put(connection, rows)

        self._once_more(write)

    def write_newer(self, rows: Sequence[EncodedState]) -> int:
        def write(connection: "Connection[Any]") -> int:
            with self._writing(connection):
                chosen = newer(rows, self._read(connection, [row.key for row in rows], ["version"]))
                self._put(connection, chosen)
            return len(chosen)

        return self._once_more(write)

    def close(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    @contextmanager
    def _writing(self, connection: "Connection[Any]") -> Iterator[None]:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITERS,))
            yield

    def _put(self, connection: "Connection[Any]", rows: Sequence[EncodedState]) -> None:
        records = [(row.key, name, value, row.at_ms) for row in rows for name, value in row.values.items()]
        if records:
            keys, names, values, at_ms = zip(*records, strict=True)
            connection.execute(self._upsert, (list(keys), list(names), list(values), [*map(from_ms, at_ms)]))

    def _once_more(self, call: "Callable[[Connection[Any]], T]") -> T:
        """Call with a connection; where it was broken meanwhile, once more with a new one. Both ways leave the same."""
        from psycopg import OperationalError
        from psycopg.errors import QueryCanceled

        with suppress(IndexError):
            kept = self._idle.pop()
            try:
                return self._with(kept, call)
            except QueryCanceled:
                raise
            except OperationalError:
                # The server was away: the others are broken too.
                self.close()
        return self._with(self._connect(), call)

    def _with(self, connection: "Connection[Any]", call: "Callable[[Connection[Any]], T]") -> T:
        try:
            done = call(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return done

    def _connect(self) -> "Connection[Any]":
        from psycopg import connect

        limits = {"connect_timeout": str(TIMEOUT_S), "tcp_user_timeout": str(TIMEOUT_S * 1_000)}
        given = {name: value for name, value in self._address.parameters.items() if name != "options"}
        options = f"-c statement_timeout={TIMEOUT_S}s"
        return connect(**{**limits, **given}, options=options, autocommit=True)  # type: ignore[arg-type]
