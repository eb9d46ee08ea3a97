"""The lake in Parquet files keeps the contract, and no crash or reader finds half of anything."""

import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from bespoke.errors import Unavailable
from storage.lake import Lake
from tests.contracts.lake import LakeContract, compact_all, offsets, purchase, purchases, state

WRITE_FOREVER = """
import sys
from pathlib import Path
from storage.lake import Lake
from tests.contracts.lake import purchases
lake, first = Lake(Path(sys.argv[1])), int(sys.argv[2])
while True:
    lake.write_events(0, first, first + 500, purchases(first, first + 500))
    first += 500
    print(first, flush=True)
"""


class TestFileLake(LakeContract):
    """The lake on a file system."""

    @pytest.fixture
    def lake(self, tmp_path: Path) -> Lake:
        return Lake(tmp_path / "lake")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_killed_writer_leaves_whole_files_and_its_successor_goes_on(lake: Lake) -> None:
    committed = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITE_FOREVER, str(lake.root), str(committed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            committed = [int(process.stdout.readline()) for _ in range(2)][-1]
            process.kill()
        assert set(range(committed)) <= set(offsets(lake))
        lake.discard_from("events", 0, committed)
        assert sorted(offsets(lake)) == list(range(committed))
    assert not list(lake.root.rglob("*.tmp"))


def test_temporary_files_are_passed_by(lake: Lake) -> None:
    lake.write_events(0, 0, 5, purchases(0, 5))
    (path,) = lake.files("events")
    path.with_name(f".{path.name}.1a2b3c4d.tmp").write_bytes(b"PAR1 half")
    assert offsets(lake) == list(range(5))
    assert lake.written("events", 0) == 5
    assert ds.dataset(lake.root / "events").count_rows() == 5


def test_leftovers_of_a_killed_writer_are_removed_at_its_partition_s_next_start(lake: Lake) -> None:
    lake.write_events(0, 0, 5, purchases(0, 5))
    (path,) = lake.files("events")
    mine, other = (path.with_name(f".p0{partition}-5-9.parquet.1a2b3c4d.tmp") for partition in (0, 1))
    mine.touch()
    other.touch()
    lake.discard_from("events", 0, 5)
    assert (mine.exists(), other.exists()) == (False, True)


def test_parts_that_outlived_their_merge_do_not_count_twice(lake: Lake, tmp_path: Path) -> None:
    for first in range(0, 20, 5):
        lake.write_events(0, first, first + 5, purchases(first, first + 5))
    shutil.copytree(lake.root, tmp_path / "before")
    compact_all(lake, "events", committed=20)
    shutil.copytree(tmp_path / "before", lake.root, dirs_exist_ok=True)
    assert len(lake.files("events")) == 1
    assert offsets(lake) == list(range(20))
    assert compact_all(lake, "events", committed=20) == 4
    assert offsets(lake) == list(range(20))


def test_discarding_reaches_parts_that_outlived_their_merge(lake: Lake, tmp_path: Path) -> None:
    for first in range(0, 20, 5):
        lake.write_events(0, first, first + 5, purchases(first, first + 5))
    shutil.copytree(lake.root, tmp_path / "before")
    compact_all(lake, "events", committed=20)
    shutil.copytree(tmp_path / "before", lake.root, dirs_exist_ok=True)
    lake.discard_from("events", 0, 12)
    assert offsets(lake) == list(range(12))


def test_a_range_of_several_days_that_was_cut_short_is_written_anew(lake: Lake) -> None:
    lake.write_events(0, 0, 30, purchases(0, 30))
    lake.files("events")[1].unlink()
    lake.discard_from("events", 0, 0)
    lake.write_events(0, 0, 30, purchases(0, 30))
    assert offsets(lake) == list(range(30))


def test_readers_see_every_row_once_while_files_are_merged(lake: Lake) -> None:
    written = 0
    stop = threading.Event()
    seen: list[list[int]] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(offsets(lake))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(12):
        for first in range(written, written + 4):
            lake.write_events(0, first, first + 1, [purchase(0, "a")])
        written += 4
        compact_all(lake, "events", committed=written)
    stop.set()
    reader.join()
    assert all(found == list(range(len(found))) for found in seen)
    assert offsets(lake) == list(range(written))


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_writes_merges_crashes_and_restarts_keeps_every_row_once(lake: Lake, seed: int) -> None:
    choose = random.Random(seed)
    committed = written = 0
    for _ in range(25):
        match choose.choice(["write", "write", "commit", "merge", "restart"]):
            case "write":
                first, written = written, written + choose.randrange(1, 9)
                lake.write_events(0, first, written, purchases(first, written))
            case "commit":
                committed = written
            case "merge":
                parts = {path: path.read_bytes() for path in lake.files("events")}
                compact_all(lake, "events", committed=committed)
                for path in choose.sample(sorted(parts), choose.randrange(len(parts) + 1)):
                    path.write_bytes(parts[path])  # as if it had been killed before it removed this one
            case "restart":
                written = committed
                lake.discard_from("events", 0, committed)
        assert offsets(lake) == list(range(written))


def test_latest_states_of_many_files_equal_a_plain_search(lake: Lake) -> None:
    rows = [state(f"u{(n * 7) % 23}", n + 1, received_ms=n) for n in range(400)]
    for first in range(0, 400, 50):
        lake.write_states(0, first, first + 50, rows[first : first + 50])
    for until_ms in (1, 57, 399, 1_000):
        expected = {row["user_id"]: row["version"] for row in rows[:until_ms]}
        found = lake.latest_states(until_ms).to_pylist()
        assert {row["user_id"]: row["version"] for row in found} == expected
        assert len(found) == len(expected)


def test_items_written_by_many_at_once_are_all_kept(lake: Lake) -> None:
    code = """
import sys
from pathlib import Path
from bespoke.catalog import Item
from storage.lake import Lake
for n in range(10):
    Lake(Path(sys.argv[1])).write_items([Item(f"{sys.argv[2]}-{n}")], at_ms=n)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(lake.root), str(w)]) for w in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sorted(lake.items()["item_id"].to_pylist()) == sorted(f"{w}-{n}" for w in range(3) for n in range(10))


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file/lake"):
        Lake(tmp_path / "file" / "lake").write_events(0, 0, 1, purchases(0, 1))
