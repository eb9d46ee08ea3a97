"""Enrichment as it is declared: steps in order, reference tables from files, mistakes told by entry."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.catalog import EMPTY_CATALOG
from bespoke.duplicates import NearDuplicates
from bespoke.enrichment import CatalogStep, DeviceStep, Enrichment, LocationStep
from bespoke.errors import ConfigError
from bespoke.events import Event, EventType, MessageId
from ingestion.enrich import load_enrichment, load_near_duplicates
from ingestion.reference_tables import LOOK_S, ReferenceTable

TABLE = '[tables.income]\nfile = "income.csv"\nkey = "postcode"\ncolumns = ["band", "size"]\n'


def load(folder: Path, text: str) -> Enrichment:
    (folder / "enrichment.toml").write_text(text)
    return load_enrichment(folder, catalog=lambda: EMPTY_CATALOG)


def identify(postcode: object) -> Event:
    traits = {"postcode": postcode}
    return Event(MessageId("m"), EventType.IDENTIFY, None, "u", None, 1, 1, traits=traits)


def test_what_is_shipped_is_what_holds_without_a_file(tmp_path: Path) -> None:
    shipped, absent = Path("config"), tmp_path
    assert [type(step) for step in load_enrichment(shipped, catalog=lambda: EMPTY_CATALOG).steps] == [
        type(step) for step in load_enrichment(absent, catalog=lambda: EMPTY_CATALOG).steps
    ]
    assert load_near_duplicates(shipped).within_ms == NearDuplicates().within_ms
    assert set(load_near_duplicates(shipped).events) == set(NearDuplicates().events)


def test_steps_run_in_the_order_that_is_declared(tmp_path: Path) -> None:
    steps = load(tmp_path, 'steps = ["catalog", "location", "device"]').steps
    assert [type(step) for step in steps] == [CatalogStep, LocationStep, DeviceStep]
    assert load(tmp_path, "steps = []").steps == ()


def test_a_csv_is_looked_up_by_its_key_with_leading_zeros(tmp_path: Path) -> None:
    (tmp_path / "income.csv").write_text("postcode,band,size\n08010,high,3\n1010,,5\n")
    enrichment = load(tmp_path, TABLE)
    assert enrichment.apply(identify("08010")).traits == {"postcode": "08010", "band": "high", "size": 3}
    assert enrichment.apply(identify(1010)).traits == {"postcode": 1010, "size": 5}
    assert enrichment.apply(identify("8010")).traits == {"postcode": "8010"}


def test_a_parquet_with_numbers_as_keys_is_looked_up_alike(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"postcode": [8010, 1010], "band": ["high", None], "size": [1.5, 2.0]}), tmp_path / "i.parquet"
    )
    enrichment = load(tmp_path, TABLE.replace("income.csv", "i.parquet"))
    assert enrichment.apply(identify("8010")).traits["band"] == "high"
    assert enrichment.apply(identify(1010.0)).traits == {"postcode": 1010.0, "size": 2.0}


def test_a_changed_file_is_read_again_and_a_broken_one_leaves_the_last_good_one(tmp_path: Path) -> None:
    path, now_s = tmp_path / "t.csv", [0.0]
    path.write_text("k,v\na,1\n")
    table = ReferenceTable(path, key="k", columns=["v"], monotonic=lambda: now_s[0])

    def put(text: str) -> None:
        path.write_text(text)
        now_s[0] += LOOK_S
        os.utime(path, ns=(1, int(now_s[0])))

    put("k,v\na,2\n")
    assert table.row("a") == {"v": 2}
    put("k,w\na,3\n")
    assert table.row("a") == {"v": 2}
    put("k,v\nb,4\n")
    assert (table.row("a"), table.row("b")) == (None, {"v": 4})
    path.unlink()
    now_s[0] += LOOK_S
    assert table.row("b") == {"v": 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('steps = ["device", "tarot"]', "steps: got ['device', 'tarot'], expected a list of some of device, location"),
        ('steps = ["device", "device"]', "expected each step once"),
        ("[tarot]", "got 'tarot', expected some of steps, near_duplicates, device"),
        ("[location]\ndecimals = 5", "location: decimals: Input should be less than or equal to 2, got 5"),
        ("[device]\nrobots = []", "device: robots: Extra inputs are not permitted"),
        ('[device]\nbots = [" "]', "an empty text is part of every user agent"),
        ('[catalog]\nfields = ["name"]', "catalog: fields.0: Input should be 'category', 'brand' or 'price'"),
        (TABLE, "no file at"),
    ],
)
def test_a_mistake_is_told_by_file_entry_and_value(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert told in str(caught.value)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "income.csv").write_text("postcode,band,size\n1010,a,1\n1010,b,2\n")
    with pytest.raises(ConfigError, match=r"postcode '1010' stands in two rows"):
        load(tmp_path, TABLE)


@pytest.mark.parametrize("text", ["within_s = 61", 'events = ["Signed Up"]', "within = 2"])
def test_near_duplicates_are_checked_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "enrichment.toml").write_text(f"[near_duplicates]\n{text}\n")
    with pytest.raises(ConfigError, match="near_duplicates"):
        load_near_duplicates(tmp_path)
