"""Reference tables: what somebody knows of postcodes, stores or tariffs, looked up by a trait."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bespoke.enrichment import key_text
from bespoke.errors import ConfigError
from ingestion.tables import read_columns

logger = logging.getLogger(__name__)

MAX_ROWS = 500_000
MAX_BYTES = 200_000_000
LOOK_S = 5.0
"""A changed file is noticed within this time."""


class ReferenceTable:
    """One file in memory, by its key; read again when it changes.

    A changed file that cannot be read leaves the last good one in use.
    """

    def __init__(
        self, path: Path, *, key: str, columns: Sequence[str], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the file.

        Args:
            path: a CSV or Parquet file.
            key: the column that is looked up; each value once.
            columns: what is told of a key.
            monotonic: seconds, to tell when to look for a change.

        Raises:
            ConfigError: the file is missing, too large, lacks a column, or a key is there twice.
        """
        self._path, self._key, self._columns = path, key, tuple(columns)
        self._monotonic = monotonic
        self._looked_s = monotonic()
        self._stamp = _stamp(path)
        self._numbers, self._values = self._read()

    def row(self, key: str) -> Mapping[str, Any] | None:
        """Return what the table says of ``key``, without what it leaves empty; None for an unknown key."""
        if self._monotonic() - self._looked_s >= LOOK_S:
            self._look()
        number = self._numbers.get(key)
        if number is None:
            return None
        told = zip(self._columns, (values[number] for values in self._values), strict=True)
        return {name: value for name, value in told if value is not None}

    def _look(self) -> None:
        self._looked_s = self._monotonic()
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._numbers, self._values = self._read()
            logger.info("%s changed and was read again: %d rows", self._path, len(self._numbers))
        except ConfigError as error:
            logger.warning("the last good content of a reference table stays in use: %s", error)

    def _read(self) -> tuple[Mapping[str, int], Sequence[Sequence[Any]]]:
        if self._stamp is not None and self._stamp[1] > MAX_BYTES:
            raise ConfigError(f"{self._path}: got {self._stamp[1]} bytes, expected at most {MAX_BYTES}; use fewer rows")
        table = read_columns(self._path, [self._key, *self._columns], text=[self._key])
        if table.num_rows > MAX_ROWS:
            raise ConfigError(f"{self._path}: got {table.num_rows} rows, expected at most {MAX_ROWS}")
        numbers: dict[str, int] = {}
        for number, value in enumerate(table[self._key].to_pylist()):
            if value is not None and numbers.setdefault(key_text(value), number) != number:
                raise ConfigError(f"{self._path}: {self._key} {value!r} stands in two rows; expected each key once")
        return numbers, [[_plain(value) for value in table[name].to_pylist()] for name in self._columns]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _plain(value: Any) -> Any:
    """Return a value that JSON can carry; None for none."""
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)
