"""What every online store can do with encoded rows."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from storage.features.encoding import EncodedState, decode


class OnlineRows(Protocol):
    """Rows by key and column. Safe to share between threads."""

    def read(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]]:
        """Return the values of each key; columns that it does not have are absent."""

    def read_at_once(self, keys: Sequence[bytes], columns: Sequence[str]) -> list[Mapping[str, bytes]] | None:
        """Return the same where that waits for nobody, neither a network nor another thread; else None."""

    def write(self, rows: Sequence[EncodedState]) -> None:
        """Write ``rows``, each key once, in the place of what is there."""

    def write_newer(self, rows: Sequence[EncodedState]) -> int:
        """Write those of ``rows`` whose version is above the one that is there; return how many.

        No writer comes in between the look and the write.
        """

    def close(self) -> None:
        """Let go of the store."""


def newer(rows: Sequence[EncodedState], held: Sequence[Mapping[str, bytes]]) -> list[EncodedState]:
    """Return those of ``rows`` whose version is above the one that is held for the same key."""
    pairs = zip(rows, held, strict=True)
    return [row for row, values in pairs if row.version > (decode("int", values.get("version")) or -1)]
