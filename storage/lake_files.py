"""The lake's files: how they are named and which of them count.

``KIND/day=2026-01-31/p03-000000000100-000000000250.parquet`` holds the rows of partition 3 that the messages
``100 <= offset < 250`` caused and whose receipt day is that one. A file whose range lies within that of another file
of the same day and partition does not count: by that rule a merged file takes the place of its parts, for all readers
and at once.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

_NAME = re.compile(r"p(\d{2,})-(\d{12,})-(\d{12,})\.parquet")
_DAY = "day="


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One file of events or state rows."""

    folder: Path
    """The folder of its kind."""
    day: date
    partition: int
    first: int
    next: int

    @property
    def path(self) -> Path:
        """Where it rests."""
        name = f"p{self.partition:02d}-{self.first:012d}-{self.next:012d}.parquet"
        return self.folder / f"{_DAY}{self.day.isoformat()}" / name

    @property
    def order(self) -> tuple[date, int, int, int]:
        """Sorts files into the order in which their rows are read; of two with one start, the longer comes first."""
        return self.day, self.partition, self.first, -self.next


def list_files(folder: Path, *, day: date | None = None) -> list[LakeFile]:
    """Return every file of a kind, of one day or of all, in order; those that do not count included."""
    # A folder that changes while it is read may show neither a merged file nor all its parts. Two equal readings in a
    # row cannot: a part that the first one missed was removed after the merged file stood, so the second one has it.
    files = _list_once(folder, day)
    while (again := _list_once(folder, day)) != files:
        files = again
    return files


def _list_once(folder: Path, day: date | None) -> list[LakeFile]:
    names = _entries(folder) if day is None else [f"{_DAY}{day.isoformat()}"]
    files = [file for name in names if name.startswith(_DAY) for file in _files_of_day(folder, name)]
    return sorted(files, key=lambda file: file.order)


def _files_of_day(folder: Path, name: str) -> Iterator[LakeFile]:
    day = date.fromisoformat(name.removeprefix(_DAY))
    for match in map(_NAME.fullmatch, _entries(folder / name)):
        if match is not None:
            partition, first, next = map(int, match.groups())
            yield LakeFile(folder, day, partition, first, next)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def counting(files: Iterable[LakeFile]) -> list[LakeFile]:
    """Return the files that count, in order: those whose range no other file's range covers."""
    kept: list[LakeFile] = []
    for file in sorted(files, key=lambda file: file.order):
        last = kept[-1] if kept else None
        if last is None or (last.day, last.partition) != (file.day, file.partition) or file.next > last.next:
            kept.append(file)
    return kept
