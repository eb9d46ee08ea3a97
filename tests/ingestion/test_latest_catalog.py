"""The catalog at hand is the lake's, under what was said of items since."""

from datetime import UTC, datetime
from pathlib import Path

from bespoke.catalog import Item
from bespoke.events import ItemId
from ingestion.latest_catalog import LOOK_EVERY_S, LatestCatalog
from storage.control import ControlStore
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.live_catalog import LiveCatalog

TEA, MUG = ItemId("tea"), ItemId("mug")


def test_what_is_described_and_what_is_changed_live_is_seen_within_seconds(tmp_path: Path) -> None:
    lake, seconds = Lake(tmp_path), [0.0]
    with ControlStore(f"sqlite:///{tmp_path / 'control.db'}") as control:
        catalog = LatestCatalog(lake, LiveCatalog(control), monotonic=lambda: seconds[0])
        assert catalog() == {}
        lake.write_items([Item(TEA, "Tea", price=2.0)], at_ms=0)
        dearer = [ItemChange(TEA, {"price": 3.0}, whole=False), ItemChange(MUG, {"name": "Mug"})]
        control.change_items(dearer, by="k", at=datetime.now(UTC))
        assert catalog() == {}
        seconds[0] = LOOK_EVERY_S
        assert catalog() == {TEA: Item(TEA, "Tea", price=3.0), MUG: Item(MUG, "Mug")}
        lake.write_items([Item(TEA, "Green tea", price=1.0)], at_ms=1)
        seconds[0] *= 2
        assert catalog()[TEA] == Item(TEA, "Green tea", price=3.0)
