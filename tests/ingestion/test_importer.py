"""Somebody's files come in whole, in the order of time, with every rejected row explained."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from bespoke.catalog import Item
from bespoke.clock import to_ms
from bespoke.errors import ConfigError
from bespoke.events import ItemId, UserId
from ingestion.importer import import_files
from ingestion.mapping import Mapping
from storage.control import ControlStore
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.profiles import ProfileStore
from storage.settings import Settings

CSV = """user_id,item_id,event,timestamp,price
u2,007,purchase,2026-01-02T10:00:00,2.5
u1,008,view,2026-01-01T10:00:00Z,
u1,008,view,not a time,
,008,view,2026-01-01T11:00:00,
u1,009,stolen,2026-01-01T12:00:00,
u3,009,view,2026-01-01T12:00:00,-4
"""
FLAT = {
    "name": "shop",
    "events": {
        "event": {"column": "event", "values": {"view": "Product Viewed", "purchase": "Order Completed"}},
        "user_id": "user_id",
        "timestamp": "timestamp",
        "product": {"product_id": "item_id", "price": "price"},
    },
}
LINES = """basket,who,what,when,total,n
b2,u1,p1,2026-01-02 10:00:00,6.0,2
b1,u2,p2,2026-01-01 10:00:00,1.0,0
b2,u1,p3,2026-01-02 10:00:00,1.0,1
"""
BASKETS = {
    "name": "tills",
    "replay": True,
    "events": {
        "file": "lines.csv",
        "event": "Order Completed",
        "user_id": "who",
        "timestamp": "when",
        "message_id": "basket-{basket}",
        "group_by": "basket",
        "properties": {"order_id": "basket"},
        "product": {
            "product_id": "what",
            "quantity": "n",
            "price": {"column": "total", "divide_by": "n"},
            "category": {"column": "aisle", "file": "products.csv", "key": "what"},
        },
    },
    "catalog": {"file": "products.csv", "item_id": "what", "category": ["aisle"]},
    "traits": {"file": "people.csv", "user_id": "who", "columns": ["age"]},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def tills(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lines.csv").write_text(LINES)
    (tmp_path / "in" / "products.csv").write_text("what,aisle\np1,MILK\np2,BREAD\n")
    (tmp_path / "in" / "people.csv").write_text("who,age\nu1,40\n")
    return tmp_path / "in"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_good_rows_come_in_and_bad_ones_are_explained(tmp_path: Path, settings: Settings) -> None:
    result = import_files(written(tmp_path / "shop.csv", CSV), Mapping.model_validate(FLAT), settings)
    assert (result.accepted, result.rejected) == (2, 4)
    assert result.rejects_file is not None
    reasons = [orjson.loads(line) for line in result.rejects_file.read_bytes().splitlines()]
    assert sorted(reason["field"] for reason in reasons) == ["event", "properties.price", "timestamp", "userId"]


def test_ids_keep_their_leading_zeros(tmp_path: Path, settings: Settings) -> None:
    import_files(written(tmp_path / "shop.csv", CSV), Mapping.model_validate(FLAT), settings)
    assert set(Lake(settings.lake_dir).interactions()["item_id"].to_pylist()) == {"007", "008"}


def test_rows_of_a_basket_are_one_message(tills: Path, settings: Settings) -> None:
    result = import_files(tills, Mapping.model_validate(BASKETS), settings)
    assert (result.accepted, result.lines, result.items) == (3, 3, 2)
    store = ProfileStore(settings.profiles_url)
    profile = store.load([UserId("u1")])[UserId("u1")].profile
    store.close()
    assert (profile.orders, profile.revenue_micros) == (1, 7_000_000)
    assert {name for _, name in profile.category_counts} == {"MILK"}
    assert profile.traits["age"].value_json == "40"


def test_a_line_without_quantity_has_no_unit_price(tills: Path, settings: Settings) -> None:
    import_files(tills, Mapping.model_validate(BASKETS), settings)
    rows = Lake(settings.lake_dir).interactions().to_pylist()
    assert {row["item_id"]: row["price"] for row in rows} == {"p1": 3.0, "p2": None, "p3": 1.0}


def test_a_replay_is_received_when_it_happened(tills: Path, settings: Settings) -> None:
    import_files(tills, Mapping.model_validate(BASKETS), settings)
    events = Lake(settings.lake_dir).events().to_pylist()
    basket = next(event for event in events if event["message_id"] == "basket-b2")
    assert basket["received_ms"] == basket["at_ms"] == to_ms(datetime(2026, 1, 2, 10, tzinfo=UTC))


def test_a_catalog_file_is_the_newer_word_on_what_was_changed_live_before(tills: Path, settings: Settings) -> None:
    with ControlStore(settings.control_url) as control:
        sold_out = ItemChange(ItemId("p1"), {"available": False}, whole=False)
        control.change_items([sold_out], by="k", at=datetime.now(UTC))
        import_files(tills, Mapping.model_validate(BASKETS), settings)
        assert control.items_since(0)[0][0].change == sold_out, "a replay describes the items as they always were"
        import_files(tills, Mapping.model_validate({**BASKETS, "replay": False, "name": "now"}), settings)
        (live,) = control.items_since(0)[0]
    assert live.change.onto(None) == Item(ItemId("p1"), category=("MILK",))


def test_importing_the_same_again_is_refused_and_asked_for_changes_nothing(tills: Path, settings: Settings) -> None:
    mapping = Mapping.model_validate(BASKETS)
    import_files(tills, mapping, settings)
    with pytest.raises(ConfigError, match=r"lines.csv, .* came in through 'tills' at 20.* already; use --again"):
        import_files(tills, mapping, settings)
    import_files(tills, mapping, settings, again=True)
    assert Lake(settings.lake_dir).events().num_rows == 3


def test_a_changed_file_is_another_import(tills: Path, settings: Settings) -> None:
    mapping = Mapping.model_validate(BASKETS)
    import_files(tills, mapping, settings)
    (tills / "lines.csv").write_text(LINES + "b3,u3,p1,2026-01-03 10:00:00,1.0,1\n")
    (tills / "people.csv").write_text("who,age\nu1,41\n")
    import_files(tills, mapping, settings)
    assert Lake(settings.lake_dir).events().num_rows == 5


def test_rows_of_a_second_file_are_no_repeats(tmp_path: Path, settings: Settings) -> None:
    mapping, header = Mapping.model_validate(FLAT), "user_id,item_id,event,timestamp,price\n"
    rows = ["u1,1,view,2026-01-01,\n", "u1,1,view,2026-01-01,\n", "u2,2,view,2026-01-02,\n", "u3,3,view,2026-01-03,\n"]
    for name, chosen in (("a.csv", rows[:3]), ("b.csv", rows[2:])):
        import_files(written(tmp_path / name, header + "".join(chosen)), mapping, settings)
    assert sorted(Lake(settings.lake_dir).interactions()["item_id"].to_pylist()) == ["1", "1", "2", "3"]


def test_a_missing_file_is_told_before_anything_is_taken(tills: Path, settings: Settings) -> None:
    (tills / "lines.csv").unlink()
    with pytest.raises(ConfigError, match=r"lines\.csv is not in"):
        import_files(tills, Mapping.model_validate(BASKETS), settings)
    assert not settings.home.exists()


def test_only_the_asked_time_comes_in(tills: Path, settings: Settings) -> None:
    result = import_files(tills, Mapping.model_validate(BASKETS), settings, until=datetime(2026, 1, 2, tzinfo=UTC))
    assert result.lines == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": "nobody"}, "has no column nobody; it has: basket, who, what, when, total, n"),
        ({"file": "other.csv"}, r"other.csv is not in .*; there are: lines.csv, people.csv, products.csv"),
    ],
)
def test_a_wrong_mapping_says_what_there_is(
    tills: Path, settings: Settings, change: dict[str, str], message: str
) -> None:
    mapping = {**BASKETS, "events": {**BASKETS["events"], **change}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=message):
        import_files(tills, Mapping.model_validate(mapping), settings)


def test_an_empty_folder_is_an_error(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no CSV or Parquet files"):
        import_files(tmp_path, Mapping.model_validate(FLAT), settings)


def test_a_table_without_rows_brings_nothing(tmp_path: Path, settings: Settings) -> None:
    empty = written(tmp_path / "shop.csv", CSV.splitlines()[0] + "\n")
    assert import_files(empty, Mapping.model_validate(FLAT), settings).accepted == 0


def test_numbers_as_times_need_a_unit(tmp_path: Path, settings: Settings) -> None:
    shop = written(tmp_path / "shop.csv", "user_id,item_id,event,timestamp,price\nu1,1,view,1767261600,\n")
    with pytest.raises(ConfigError, match="set time_unit to s or ms"):
        import_files(shop, Mapping.model_validate(FLAT), settings)
    in_seconds = {**FLAT, "events": {**FLAT["events"], "time_unit": "s"}}  # type: ignore[dict-item]
    assert import_files(shop, Mapping.model_validate(in_seconds), settings).accepted == 1
