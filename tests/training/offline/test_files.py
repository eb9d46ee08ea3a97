"""Files of any origin: what they say is read, what is nonsense is refused by name."""

import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.clock import from_ms, to_ms
from bespoke.errors import TrainingError
from bespoke.models.history import InteractionWeights
from training.offline.files import read_world

Write = Callable[..., Path]
MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_whole_numbers_are_one_id_however_they_are_written(tmp_path: Path, write: Write) -> None:
    csv = write("train.csv", "user_id,item_id", (7, "a"), (8, "b"))
    pq.write_table(pa.table({"user_id": [7.0, None], "item_id": ["a", "c"]}), tmp_path / "test.parquet")
    world = read_world(csv, test=tmp_path / "test.parquet")
    assert world.ids.users == ("7", "8")
    assert world.sources["test"].dropped == {"no user_id": 1}


@pytest.mark.parametrize(
    "stamps",
    [
        pa.array([MOMENT.isoformat()]),
        pa.array([MOMENT.isoformat().replace("+00:00", "Z")]),
        pa.array(["2024-05-06 09:08:09+02:00"]),
        pa.array([MOMENT], pa.timestamp("us", tz="UTC")),
        pa.array([MOMENT.timestamp()]),
        *(pa.array([round(MOMENT.timestamp() * unit)]) for unit in (1, 1e3, 1e6, 1e9)),
    ],
    ids=["iso", "Z", "zone", "arrow", "float", "s", "ms", "us", "ns"],
)
def test_a_moment_is_the_same_in_every_notation(tmp_path: Path, stamps: pa.Array) -> None:
    pq.write_table(pa.table({"user_id": ["a"], "item_id": ["x"], "timestamp": stamps}), tmp_path / "t.parquet")
    assert from_ms(int(read_world(tmp_path / "t.parquet").train.at_ms_N[0])) == MOMENT


def test_dates_and_small_numbers_keep_their_order(tmp_path: Path) -> None:
    for stamps in (pa.array([date(2024, 1, 2), date(2024, 1, 1)]), pa.array([2, 1])):
        table = pa.table({"user_id": ["a", "a"], "item_id": ["late", "early"], "timestamp": stamps})
        pq.write_table(table, tmp_path / "t.parquet")
        train = read_world(tmp_path / "t.parquet").train
        assert [train.ids.items[row] for row in train.item_N] == ["early", "late"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("timestamp", "yesterday", "timestamp of row 2 is 'yesterday', expected an ISO 8601 time"),
        ("timestamp", "-5", "timestamp of row 2 is -5.0"),
        ("timestamp", "1e30", "timestamp of row 2 is 1e+30, expected a time before 2200"),
        ("weight", "-1", "weight of row 2 is -1.0, expected a number of 0 or more"),
        ("weight", "inf", "weight of row 2 is inf, expected a finite number"),
        ("weight", "many", "weight of row 2 is 'many', expected a number"),
    ],
)
def test_nonsense_is_refused_by_column_value_and_row(write: Write, column: str, value: str, said: str) -> None:
    path = write("t.csv", f"user_id,item_id,{column}", ("a", "x", 1700000000), ("a", "y", value))
    if value == "yesterday":
        path = write("t.csv", f"user_id,item_id,{column}", ("a", "x", "2024-01-01"), ("a", "y", value))
    with pytest.raises(TrainingError) as error:
        read_world(path)
    assert said in str(error.value)


def test_rows_that_cannot_count_are_left_out_and_counted(write: Write) -> None:
    rows = [("a", "x", 1, 5), (None, "x", 1, 5), ("a", None, 1, 5), ("a", "y", 0, 5), ("a", "z", 1, None)]
    world = read_world(write("t.csv", "user_id,item_id,weight,timestamp", *rows))
    assert len(world.train) == 1
    assert world.sources["train"].dropped == {"no user_id": 1, "no item_id": 1, "weight 0": 1, "no timestamp": 1}


def test_a_weight_replaces_that_of_the_type_and_unknown_types_count_one(write: Write) -> None:
    rows = [
        ("a", "1", "view", None),
        ("a", "2", "Order Completed", None),
        ("a", "3", "view", 4),
        ("a", "4", "yawn", None),
    ]
    world = read_world(write("t.csv", "user_id,item_id,event_type,weight", *rows))
    np.testing.assert_allclose(world.train.line_weights(InteractionWeights(view=0.1)), [0.1, 1.0, 4.0, 1.0])
    assert world.sources["train"].unknown_event_types == {"yawn": 1}


def test_histories_carry_the_files_weights_only_where_types_do_not_say_it_all(write: Write) -> None:
    rows = [("a", "1", "view", None), ("b", "2", "view", 4)]
    train = read_world(write("t.csv", "user_id,item_id,event_type,weight", *rows)).train
    typed, weighed = train.histories(np.array([0, 1]), InteractionWeights(), at_ms=1)
    assert typed.weights is None and weighed.weights == (4.0,)


def test_a_folder_is_read_as_one_table_whatever_its_files_are(tmp_path: Path, write: Write) -> None:
    write("all/a.csv", "user_id,item_id", (1, "x"))
    (tmp_path / "all" / "b.csv.gz").write_bytes(gzip.compress(b"user_id;item_id\n2;y\n"))
    (tmp_path / "all" / "c.tsv").write_text("\ufeffuser_id\titem_id\n3\tz\n")
    pq.write_table(pa.table({"user_id": [4], "item_id": [5]}), tmp_path / "all" / "d.parquet")
    assert read_world(tmp_path / "all").ids.users == ("1", "2", "3", "4")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no file at"),
        ("empty.csv", b"", "is empty"),
        ("heading.csv", b"user_id,item_id\n", "has no rows"),
        ("other.csv", b"userId,item_id\n1,2\n", "has no column user_id; it has: userId, item_id"),
        ("ragged.csv", b"user_id,item_id\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("broken.csv.gz", b"no gzip", "cannot be read"),
        ("broken.parquet", b"PAR1 no", "cannot be read"),
        ("notes.docx", b"x", "expected a .parquet"),
        ("lost.csv", b"user_id,item_id\n,2\n", "all of its 1 rows were left out: 1 with no user_id"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError) as error:
        read_world(tmp_path / name)
    assert said in str(error.value) and str(tmp_path / name) in str(error.value)


def test_files_of_different_data_sets_are_told(write: Write) -> None:
    train, test = write("a.csv", "user_id,item_id", (1, 2)), write("b.csv", "user_id,item_id", ("u1", "i2"))
    with pytest.raises(TrainingError, match="no user and no item in common"):
        read_world(train, test=test)


def test_items_are_read_with_category_paths_and_words(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "item_id": [1, 2],
        "title": ["Tea", "Nail"],
        "category": [["Food", "Tea"], None],
        "price": ["2.5", None],
        "colour": ["green", "grey"],
    }
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    pq.write_table(pa.table({"user_id": [1], "item_id": [1]}), tmp_path / "train.parquet")
    catalog = read_world(tmp_path / "train.parquet", items=tmp_path / "items.parquet").catalog
    tea = next(item for item in catalog.values() if item.name == "Tea")
    assert (tea.category, tea.price, tea.text) == (("Food", "Tea"), 2.5, "green")


def test_times_of_one_file_alone_are_left_aside(write: Write) -> None:
    train = write("a.csv", "user_id,item_id,timestamp", (1, 2, "2024-01-01"))
    world = read_world(train, test=write("b.csv", "user_id,item_id", (1, 3)))
    assert not world.train.timed and to_ms(MOMENT) > world.train.cut_ms
