"""Ids and their row numbers: the one place where outside ids become rows of arrays, and rows ids again."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

RowArray = npt.NDArray[np.int32]

IdT = TypeVar("IdT", bound=str)

CHUNK = 2048
"""Ids handled in one go, some tenths of a millisecond: other threads of the process wait no longer than that."""
PAUSE_S = 1e-3
"""Several times a chunk's own time. Who answers requests meanwhile lets go of the interpreter in every larger array
operation, and waits for the end of a chunk each time."""


class Vocabulary(Generic[IdT]):
    """Ids and their row numbers.

    >>> Vocabulary(["a", "b"]).rows(["b", "?"]).tolist()
    [1, -1]
    """

    __slots__ = ("_row_of", "ids")

    def __init__(self, ids: Iterable[IdT] = ()) -> None:
        """Number ``ids`` from 0.

        Raises:
            ValueError: an id comes twice.
        """
        self.ids: tuple[IdT, ...] = tuple(ids)
        self._row_of: dict[IdT, int] = {}
        for first in chunk_starts(len(self.ids)):
            chunk = self.ids[first : first + CHUNK]
            self._row_of.update(zip(chunk, range(first, first + len(chunk)), strict=True))
        self._require_distinct()

    @classmethod
    def from_arrow(cls, ids: "pa.StringArray | pa.ChunkedArray") -> Self:
        """Number the strings of an Arrow column from 0.

        Raises:
            ValueError: an id comes twice, or is missing.
        """
        return cls(texts(ids))  # type: ignore[arg-type]

    def extended(self, ids: Sequence[IdT]) -> "Vocabulary[IdT]":
        """Return a vocabulary with ``ids`` after its own; those that it holds already keep their row.

        >>> Vocabulary(["a", "b"]).extended(["b", "c"]).ids
        ('a', 'b', 'c')
        """
        new = [id for id in dict.fromkeys(ids) if id not in self._row_of]
        if not new:
            return self
        longer: Vocabulary[IdT] = Vocabulary()
        longer.ids = (*self.ids, *new)
        longer._row_of = self._row_of.copy()
        longer._row_of.update(zip(new, range(len(self.ids), len(longer.ids)), strict=True))
        return longer

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self._row_of

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Vocabulary) or len(self) != len(other):
            return False
        starts = chunk_starts(len(self))
        return all(self.ids[first : first + CHUNK] == other.ids[first : first + CHUNK] for first in starts)

    def __hash__(self) -> int:
        return hash((len(self.ids), self.ids[:1], self.ids[-1:]))

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self.ids)} ids"

    def row(self, id: IdT) -> int | None:
        """Return the row of ``id``, or None where it is unknown."""
        return self._row_of.get(id)

    def rows(self, ids: Iterable[IdT]) -> RowArray:
        """Return the row of each id, -1 where it is unknown."""
        row_of = self._row_of
        if not isinstance(ids, tuple) or len(ids) <= CHUNK:
            return np.fromiter(map(row_of.get, ids, repeat(-1)), dtype=np.int32)
        row_N = np.empty(len(ids), dtype=np.int32)
        for first in chunk_starts(len(ids)):
            chunk = ids[first : first + CHUNK]
            row_N[first : first + CHUNK] = np.fromiter(map(row_of.get, chunk, repeat(-1)), np.int32, len(chunk))
        return row_N

    def _require_distinct(self) -> None:
        if repeated := len(self.ids) - len(self._row_of):
            raise ValueError(f"a vocabulary's ids differ, got {repeated} repeated ones")


def chunk_starts(count: int) -> Iterator[int]:
    """Yield where each chunk of ``count`` things begins, and let other threads in between.

    Python gives way to another thread only every five milliseconds, and a call into C not at all. What builds large
    things beside requests that are being answered goes in chunks.
    """
    for first in range(0, count, CHUNK):
        if first:
            time.sleep(PAUSE_S)
        yield first


def texts(column: "pa.StringArray | pa.ChunkedArray") -> list[str]:
    """Return the strings of an Arrow column, chunk by chunk.

    Raises:
        ValueError: a string is missing.
    """
    if column.null_count:
        raise ValueError(f"{column.null_count} ids are missing")
    made: list[Any] = []
    for first in chunk_starts(len(column)):
        chunk = column.slice(first, CHUNK)
        # Faster than to_pylist, which makes an Arrow scalar of every string.
        values = chunk.to_numpy() if isinstance(chunk, pa.ChunkedArray) else chunk.to_numpy(zero_copy_only=False)
        made += values.tolist()
    return made
