"""What every control store promises of the live catalog and of serving contexts; a new engine gives an address."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from bespoke.catalog import Item
from bespoke.clock import to_ms
from bespoke.errors import NotFound
from bespoke.events import ItemId
from storage.control import ControlStore
from storage.control_items import KEEP_MS
from storage.item_changes import ItemChange, LiveItem

AT = datetime(2026, 11, 23, 6, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
TEA, MUG = ItemId("tea"), ItemId("mug")


def whole(item_id: str, **fields: object) -> ItemChange:
    """Return the whole description of an item."""
    return ItemChange(ItemId(item_id), fields)


def part(item_id: str, **fields: object) -> ItemChange:
    """Return a change of some fields."""
    return ItemChange(ItemId(item_id), fields, whole=False)


def say(control: ControlStore, *changes: ItemChange, at: datetime = AT) -> int:
    """Put changes in force."""
    return control.change_items(changes, by="key1", at=at)


def said(items: list[LiveItem]) -> list[tuple[str, dict[str, object]]]:
    """Return what is in force of each item."""
    return [(one.change.item_id, dict(one.change.fields)) for one in items]


class CatalogItemsContract:
    """Subclasses give the fixture ``url``: where a store can be created."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a store that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def control(self, url: str) -> Iterator[ControlStore]:
        """Return an empty store."""
        with ControlStore(url) as opened:
            yield opened

    def test_a_catalog_that_nobody_changed_is_empty(self, control: ControlStore) -> None:
        assert (control.items_since(0), control.catalog_seq()) == (([], 0), 0)

    def test_what_was_said_is_in_force_with_who_said_it_and_when(self, control: ControlStore) -> None:
        tea = whole("tea", name="Tea", category=["DRINKS", "TEA"], price=2.5, available=True, brand=None)
        assert say(control, tea) == 1
        assert control.items_since(0) == ([LiveItem(tea, 1, to_ms(AT), "key1")], 1)

    def test_a_reader_gets_only_what_changed_since(self, control: ControlStore) -> None:
        say(control, whole("tea"), whole("mug"))
        _, seen = control.items_since(0)
        say(control, part("tea", price=3.0))
        items, seq = control.items_since(seen)
        assert (said(items), seq) == ([("tea", {"price": 3.0})], 3)
        assert control.items_since(seq) == ([], seq)

    def test_a_part_keeps_what_it_does_not_name_and_a_whole_does_not(self, control: ControlStore) -> None:
        say(control, whole("tea", name="Tea", price=2.0))
        say(control, part("tea", available=False))
        assert said(control.items_since(0)[0]) == [("tea", {"name": "Tea", "price": 2.0, "available": False})]
        say(control, whole("tea", name="Green tea"))
        assert said(control.items_since(0)[0]) == [("tea", {"name": "Green tea"})]

    def test_a_part_of_an_item_that_was_never_described_live_stays_a_part(self, control: ControlStore) -> None:
        say(control, part("tea", available=False))
        (live,) = control.items_since(0)[0]
        assert live.change.onto(Item(TEA, name="Tea", price=2.0)) == Item(TEA, name="Tea", price=2.0, available=False)

    def test_several_changes_of_one_item_count_in_their_order(self, control: ControlStore) -> None:
        say(control, whole("tea", price=1.0), part("tea", price=2.0), part("tea", brand="X"))
        assert said(control.items_since(0)[0]) == [("tea", {"price": 2.0, "brand": "X"})]

    def test_saying_the_same_again_changes_nothing(self, control: ControlStore) -> None:
        say(control, whole("tea", price=1.0))
        assert say(control, whole("tea", price=1.0), at=AT + HOUR) == 1
        assert len(control.item_history(TEA)) == 1

    def test_what_was_in_force_at_a_number_or_a_time_can_be_read_again(self, control: ControlStore) -> None:
        for hours, price in enumerate((1.0, 2.0, 3.0)):
            say(control, whole("tea", price=price), at=AT + hours * HOUR)
        say(control, whole("mug"), at=AT + 3 * HOUR)
        assert [said(control.items_at(seq)) for seq in (0, 1, 2)] == [
            [],
            [("tea", {"price": 1.0})],
            [("tea", {"price": 2.0})],
        ]
        assert said(control.items_at(4)) == [("tea", {"price": 3.0}), ("mug", {})]
        assert control.items_before(to_ms(AT)) == []
        assert said(control.items_before(to_ms(AT + HOUR))) == [("tea", {"price": 1.0})]
        assert said(control.items_before(to_ms(AT + HOUR) + 1)) == [("tea", {"price": 2.0})]

    def test_history_is_kept_for_400_days_after_something_else_was_said(self, control: ControlStore) -> None:
        later = AT + timedelta(milliseconds=KEEP_MS)
        for at, price in ((AT, 1.0), (AT + HOUR, 2.0), (later, 3.0), (later + 2 * HOUR, 4.0)):
            say(control, whole("tea", price=price), at=at)
        assert [one.change.fields["price"] for one in control.item_history(TEA)] == [2.0, 3.0, 4.0]

    def test_a_newer_file_renews_only_what_was_changed_live_before_it(self, control: ControlStore) -> None:
        say(control, whole("tea", price=1.0))
        say(control, whole("mug", price=1.0), at=AT + 2 * HOUR)
        file = [Item(ItemId(item_id), name="from the file", price=9.0) for item_id in ("tea", "mug", "lamp")]
        control.renew_items(file, at=AT + HOUR)
        prices = {one.change.item_id: one.change.fields["price"] for one in control.items_since(0)[0]}
        assert prices == {"tea": 9.0, "mug": 1.0}

    def test_a_poller_beside_many_writers_misses_nothing(self, control: ControlStore) -> None:
        def write(n: int) -> None:
            say(control, whole(f"item-{n}"), part("shared", price=float(n)))

        seen: dict[str, int] = {}
        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, n) for n in range(24)]
            seq, done = 0, False
            while not done:
                done = all(one.done() for one in writing)
                items, seq = control.items_since(seq)
                seen.update({one.change.item_id: one.seq for one in items})
            [one.result() for one in writing]
        assert seen == {one.change.item_id: one.seq for one in control.items_since(0)[0]}
        assert len(seen) == 25
        assert [one.seq for one in control.item_history(ItemId("shared"))] == sorted(
            {one.seq for one in control.item_history(ItemId("shared"))}
        )

    def test_a_context_is_kept_under_its_fingerprint_for_good(self, control: ControlStore) -> None:
        body = {"models": {"champion": "als@1"}, "rules": "", "pipelines": {"default": {"mmr": 0.5}}}
        name = control.save_context(body, at=AT)
        assert control.save_context(dict(reversed(body.items())), at=AT + HOUR) == name
        assert control.context(name) == body
        with pytest.raises(NotFound, match="'nope': it was never kept"):
            control.context("nope")
