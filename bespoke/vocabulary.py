"""Ids and their row numbers: the one place where outside ids become rows of arrays, and rows ids again."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

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

    __slots__ = ("_column", "_row_of", "ids")

    def __init__(self, ids: Iterable[IdT] = ()) -> None:
        """Number ``ids`` from 0.

        Raises:
            ValueError: an id comes twice.
        """
        self.ids: tuple[IdT, ...] = tuple(ids)
        self._column: pa.StringArray | None = None
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
        made = cls(texts(ids))  # type: ignore[arg-type]
        made._column = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        return made

    def extended(self, ids: Sequence[IdT]) -> "Vocabulary[IdT]":
        """Return a vocabulary with ``ids`` after its own; those that it holds already keep their row.

        >>> Vocabulary(["a", "b"]).extended(["b", "c"]).ids
        ('a', 'b', 'c')
        """
        row_of, new = self._row_of.copy(), list[IdT]()
        for first in chunk_starts(len(ids)):
            for id in ids[first : first + CHUNK]:
                if id not in row_of:
                    row_of[id] = len(row_of)
                    new.append(id)
        if not new:
            return self
        longer: Vocabulary[IdT] = Vocabulary()
        longer.ids, longer._row_of = (*self.ids, *new), row_of
        if self._column is not None:
            longer._column = pa.concat_arrays([self._column, pa.array(new, self._column.type)])
        return longer

    @property
    def column(self) -> "pa.StringArray":
        """The same ids as an Arrow column."""
        if self._column is None:
            starts = chunk_starts(len(self))
            parts = [pa.array(self.ids[first : first + CHUNK], pa.string()) for first in starts]
            self._column = pa.concat_arrays(parts) if parts else pa.array([], pa.string())
        return self._column

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self._row_of

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Vocabulary) or len(self) != len(other):
            return False
        return self.ids == other.ids if len(self) <= CHUNK else self.column.equals(other.column)

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

    def rows_of(self, other: "Vocabulary[IdT]") -> RowArray:
        """Return the row of each id of another vocabulary, -1 where it is unknown; without the interpreter's lock.

        >>> Vocabulary(["a", "b"]).rows_of(Vocabulary(["b", "?"])).tolist()
        [1, -1]
        """
        if len(other) <= CHUNK:
            return self.rows(other.ids)
        if self == other:
            return np.arange(len(self), dtype=np.int32)
        row_N: RowArray = pc.fill_null(pc.index_in(other.column, value_set=self.column), -1).to_numpy()
        return row_N

    def stands_at(self, row_N: RowArray, other: "Vocabulary[IdT]") -> bool:
        """Return whether each id of another vocabulary has the row here that it is said to have.

        >>> Vocabulary(["a", "b"]).stands_at(np.array([1]), Vocabulary(["b"]))
        True
        """
        if row_N.max(initial=-1) >= len(self):
            return False
        return bool(self.column.take(pa.array(row_N)).equals(other.column))

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
