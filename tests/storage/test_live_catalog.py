"""What was changed live lies over what was known, in the same rows however the changes came."""

from pathlib import Path

import numpy as np

from bespoke.catalog import Item, ItemTable
from bespoke.errors import Unavailable
from bespoke.events import ItemId
from storage.control import ControlStore
from storage.item_changes import LiveItem
from storage.live_catalog import LiveCatalog
from tests.contracts.control_items import AT, part, whole

TABLE = ItemTable.of([Item(ItemId("tea"), "Tea", price=2.0), Item(ItemId("mug"), "Mug")])


def open_control(folder: Path) -> ControlStore:
    return ControlStore(f"sqlite:///{folder / 'control.db'}")


def test_a_change_is_seen_by_the_next_poll_and_said_once(tmp_path: Path) -> None:
    with open_control(tmp_path) as control:
        live = LiveCatalog(control)
        assert (live.poll(), live.seq) == (False, 0)
        control.change_items([part("tea", available=False)], by="k", at=AT)
        assert (live.poll(), live.poll(), live.seq) == (True, False, 1)
    table = live.over(TABLE)
    assert table.available_T.tolist() == [False, True]
    assert (table.name(0), table.price_T[0]) == ("Tea", 2.0)


def test_the_same_changes_give_the_same_rows_in_whatever_steps_they_were_seen(tmp_path: Path) -> None:
    with open_control(tmp_path) as control:
        early, late = LiveCatalog(control), LiveCatalog(control)
        for item_id in ("z", "b", "tea", "a", "z"):
            control.change_items([part(item_id, price=float(control.catalog_seq()))], by="k", at=AT)
            early.poll()
        late.poll()
    assert early.over(TABLE).items.ids == late.over(TABLE).items.ids == ("tea", "mug", "a", "b", "z")
    np.testing.assert_array_equal(early.over(TABLE).price_T, late.over(TABLE).price_T)


def test_an_overlay_stays_what_it_was(tmp_path: Path) -> None:
    with open_control(tmp_path) as control:
        live = LiveCatalog(control)
        control.change_items([whole("tea", name="Green tea")], by="k", at=AT)
        live.poll()
        before = live.overlay
        control.change_items([whole("tea", name="Black tea")], by="k", at=AT)
        live.poll()
    assert (before.seq, before.over(TABLE).name(0)) == (1, "Green tea")
    assert (live.seq, live.over(TABLE).name(0)) == (2, "Black tea")


def test_while_the_store_is_away_the_last_state_stays() -> None:
    class Away:
        here = True

        def items_since(self, seq: int) -> tuple[list[LiveItem], int]:
            if not self.here:
                raise Unavailable("gone")
            return [LiveItem(part("tea", price=9.0), 1, 0, "k")], 1

    store = Away()
    live = LiveCatalog(store)
    live.poll()
    store.here = False
    assert (live.poll(), live.away, live.seq) == (False, True, 1)
    assert live.over(TABLE).price_T[0] == 9.0


def test_what_is_remembered_of_one_table_is_not_said_of_another(tmp_path: Path) -> None:
    with open_control(tmp_path) as control:
        live = LiveCatalog(control)
        control.change_items([part("tea", available=False)], by="k", at=AT)
        live.poll()
        assert live.over(TABLE).name(0) == "Tea"
        renamed = ItemTable.of([Item(ItemId("tea"), "Green tea", price=3.0)])
        assert (live.over(renamed).name(0), live.over(renamed).price_T[0]) == ("Green tea", 3.0)
        before = live.overlay
        control.change_items([part("tea", price=4.0)], by="k", at=AT)
        live.poll()
    assert [overlay.over(renamed).price_T[0] for overlay in (before, live.overlay, before)] == [3.0, 4.0, 3.0]
