"""The cache of lines reads what is new, and everything where something that it held has changed."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.line_cache import INDEX, MOST_PARTS, LineCache


class Reader:
    """Reads files of one column and remembers which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, files: Sequence[Path]) -> list[pa.Table]:
        self.read += [path.name for path in files]
        return [pq.read_table(path) for path in files]


def lake_file(folder: Path, name: str, *lines: int) -> Path:
    path = folder / name
    pq.write_table(pa.table({"line": pa.array(lines, pa.int64())}), path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> LineCache:
    return LineCache(tmp_path / "cache")


def lines(cache: LineCache, files: Sequence[Path], reader: Reader) -> list[int]:
    found: list[int] = sorted(cache.read(files, reader)["line"].to_pylist())
    return found


def test_only_new_files_are_read(cache: LineCache, tmp_path: Path) -> None:
    reader, one = Reader(), lake_file(tmp_path, "a", 1, 2)
    assert lines(cache, [one], reader) == [1, 2]
    two = lake_file(tmp_path, "b", 3)
    assert lines(cache, [one, two], reader) == [1, 2, 3]
    assert lines(cache, [one, two], reader) == [1, 2, 3]
    assert reader.read == ["a", "b"]


@pytest.mark.parametrize("change", ["vanished", "rewritten"])
def test_everything_is_read_anew_where_a_file_changed(cache: LineCache, tmp_path: Path, change: str) -> None:
    reader, files = Reader(), [lake_file(tmp_path, "a", 1, 2), lake_file(tmp_path, "b", 3)]
    lines(cache, files, reader)
    if change == "vanished":
        files = files[1:]
    else:
        # Somebody's lines are gone.
        lake_file(tmp_path, "a", 2, 2, 2, 2, 2, 2, 2, 2)
    assert lines(cache, files, reader) == ([3] if change == "vanished" else [2] * 8 + [3])
    assert len([path for path in (tmp_path / "cache").glob("lines-*")]) == 1


def test_many_parts_become_one(cache: LineCache, tmp_path: Path) -> None:
    reader, files = Reader(), []
    for number in range(MOST_PARTS + 1):
        files.append(lake_file(tmp_path, f"f{number}", number))
        assert lines(cache, files, reader) == list(range(number + 1))
    assert len([path for path in (tmp_path / "cache").glob("lines-*")]) == 1
    assert len(reader.read) == MOST_PARTS + 1


@pytest.mark.parametrize("lost", [INDEX, "lines-*.parquet"])
def test_a_damaged_cache_is_made_again(cache: LineCache, tmp_path: Path, lost: str) -> None:
    reader, one = Reader(), lake_file(tmp_path, "a", 1, 2)
    lines(cache, [one], reader)
    for path in (tmp_path / "cache").glob(lost):
        path.unlink()
    assert lines(cache, [one], reader) == [1, 2]
    assert reader.read == ["a", "a"]
