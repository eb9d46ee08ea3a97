"""Online rows in the table that Feast keeps in SQLite: one record per person and column."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock

from bespoke.clock import from_ms
from storage.features.encoding import EncodedState
from storage.features.rows import newer
from storage.sqlite import BUSY_TIMEOUT_S, is_busy, open_sqlite, writing

_KEYS_PER_QUERY = 1_000


class SqliteRows:
    """One file, one connection to it that threads take in turns, and one for who cannot wait for a turn."""

    def __init__(self, path: Path, *, table: str) -> None:
        self._path = path
        self._turn = Lock()
        # Written like what is durable, although it can be made anew: the profile store remembers what was pushed.
        self._connection = open_sqlite(path)
        self._prompt_turn = Lock()
        self._prompt = open_sqlite(path)
        self._prompt.execute("PRAGMA busy_timeout=0")
        self._one = f'SELECT feature_name, value FROM "{table}" WHERE entity_key = ? AND feature_name IN ({{}})'
        self._many = (
            f'SELECT entity_key, feature_name, value FROM "{table}" '
            "WHERE entity_key IN ({}) AND feature_name IN ({})"
        )
        self._upsert = (
            f'INSERT INTO "{table}" (entity_key, feature_name, value, event_ts) VALUES (?, ?, ?, ?) '
            "ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = NULL, event_ts = excluded.event_ts"
        )

    def read(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]]:
        with self._turn:
            return self._read(self._connection, keys, columns)

    def read_at_once(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]] | None:
        if not self._prompt_turn.acquire(blocking=False):
            return None
        try:
            return self._read(self._prompt, keys, columns)
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return None
            raise
        finally:
            self._prompt_turn.release()

    def _read(
        self, connection: sqlite3.Connection, keys: Sequence[bytes], columns: Sequence[str]
    ) -> list[Mapping[str, bytes]]:
        if len(keys) == 1:
            return [dict(connection.execute(self._one.format(_marks(columns)), (keys[0], *columns)))]
        found: dict[bytes, dict[str, bytes]] = {key: {} for key in keys}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            query = self._many.format(_marks(some), _marks(columns))
            for key, name, value in connection.execute(query, (*some, *columns)):
                found[key][name] = value
        return [found[key] for key in keys]

    def write(self, rows: Sequence[EncodedState]) -> None:
        records = list(_records(rows))
        with self._turn, writing(self._connection, self._path, timeout_s=BUSY_TIMEOUT_S) as connection:
            connection.executemany(self._upsert, records)

    def write_newer(self, rows: Sequence[EncodedState]) -> int:
        with self._turn, writing(self._connection, self._path, timeout_s=BUSY_TIMEOUT_S) as connection:
            chosen = newer(rows, self._read(connection, [row.key for row in rows], ["version"]))
            connection.executemany(self._upsert, _records(chosen))
        return len(chosen)

    def close(self) -> None:
        with self._turn:
            self._connection.close()
        with self._prompt_turn:
            self._prompt.close()


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _records(rows: Sequence[EncodedState]) -> Iterator[tuple[bytes, str, bytes, int]]:
    for row in rows:
        event_ts = _feast_time(row.at_ms)
        for name, value in row.values.items():
            yield row.key, name, value, event_ts


def _feast_time(at_ms: int) -> int:
    """Return the seconds that Feast's adapter makes of a UTC time without a zone, and reads back as one."""
    naive: datetime = from_ms(at_ms).replace(tzinfo=None)
    return int(naive.timestamp())
