"""The catalog as of a cut knows nothing that came later."""

from pathlib import Path

import pytest

from bespoke.catalog import Catalog, Item
from bespoke.clock import DAY_MS, from_ms, to_ms
from bespoke.events import ItemId
from storage.control import ControlStore
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.catalog import catalog_at, known_catalog
from training.dataset import COLUMNS

FIRST_DAY = to_ms(DAY_0)
CUT = FIRST_DAY + 10 * DAY_MS


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake")
    orders = [event("u", 24 * day, "Order Completed", item) for day, item in ((1, "tea"), (12, "tea"), (12, "nail"))]
    made.write_events(0, 0, len(orders), orders)
    made.write_items([Item(ItemId("tea"), "Tea", ("DRINKS",), price=9.0), Item(ItemId("mug"), "Mug")], at_ms=0)
    made.write_items([Item(ItemId("lamp"), "Lamp", price=30.0)], at_ms=CUT + DAY_MS)
    return made


def at_cut(lake: Lake, *, raise_later_prices: bool = False) -> Catalog:
    table = lake.interactions().select(COLUMNS).sort_by("at_ms")
    if raise_later_prices:
        prices = [1_000.0 if at_ms >= CUT else 2.0 for at_ms in table["at_ms"].to_pylist()]
        table = table.set_column(COLUMNS.index("price"), "price", [prices])
    return catalog_at(lake, table, at_ms=CUT)


def test_items_described_or_sold_before_the_cut_are_known(lake: Lake) -> None:
    assert set(at_cut(lake)) == {"tea", "mug"}


def test_prices_are_those_of_lines_before_the_cut(lake: Lake) -> None:
    catalog = at_cut(lake, raise_later_prices=True)
    assert catalog[ItemId("tea")] == Item(ItemId("tea"), "Tea", ("DRINKS",), price=2.0)
    assert catalog[ItemId("mug")].price is None


def test_what_was_changed_live_before_the_cut_is_known_and_what_came_later_is_not(tmp_path: Path, lake: Lake) -> None:
    settings = Settings(home=tmp_path)
    with ControlStore(settings.control_url) as control:
        sold_out = ItemChange(ItemId("tea"), {"available": False, "price": 5.0}, whole=False)
        control.change_items([sold_out, ItemChange(ItemId("new"), {"name": "New"})], by="k", at=from_ms(CUT - 1))
        control.change_items([ItemChange(ItemId("tea"), {"name": "Later"})], by="k", at=from_ms(CUT))
    table = lake.interactions().select(COLUMNS).sort_by("at_ms")
    catalog = known_catalog(settings, table, at_ms=CUT)
    assert catalog[ItemId("tea")] == Item(ItemId("tea"), "Tea", ("DRINKS",), price=5.0, available=False)
    assert catalog[ItemId("new")] == Item(ItemId("new"), "New")
