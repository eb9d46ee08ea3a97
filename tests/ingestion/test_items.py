"""What everybody does with an item counts exactly once, whatever is interrupted, and goes online after people."""

import random
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path

import pytest

from bespoke.clock import DAY_MS, SystemClock, to_ms
from bespoke.errors import Unavailable
from bespoke.events import Event, ItemId
from bespoke.items import UNKNOWN, ItemState, count
from ingestion import item_delivery
from ingestion.item_delivery import ItemDelivery
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from storage.eventlog import open_event_log
from storage.features import apply_feature_repo
from storage.features.items import OnlineItems
from storage.item_history import item_states_at
from storage.lake import Lake
from storage.profiles import ProfileStore, StoredItem
from storage.settings import Settings
from tests.support.messages import DAY_0, as_message, event

NAMES = ("Product Viewed", "Product Added", "Order Completed", "Order Refunded")
ITEMS = [f"item-{n}" for n in range(8)]
LATER_MS = to_ms(DAY_0) + 400 * DAY_MS


class Stores:
    """The stores of one installation; each processor is a process of its own."""

    def __init__(self, home: Path) -> None:
        self.log = open_event_log(home / "log.db", partitions=2)
        self.profiles = ProfileStore(f"sqlite:///{home / 'profiles.db'}")
        self.lake = Lake(home / "lake")

    def processor(self) -> Processor:
        writer = LakeWriter(self.lake, self.log, self.profiles)
        return Processor(self.log, self.profiles, writer, partitions=(0, 1), sink=None, clock=SystemClock(), batch=7)

    def buy(self, *items: str, number: int = 0, user: str = "u") -> None:
        self.log.append([as_message(event(user, number, "Order Completed", *items))])

    def apply(self) -> None:
        processor = self.processor()
        drain(processor)
        processor.close()

    def states(self) -> dict[str, ItemState]:
        return {item.item_id: item.state for some in self.profiles.all_items(at_once=3) for item in some}

    def delivery(self, sink: "Sink | OnlineItems") -> ItemDelivery:
        return ItemDelivery(self.profiles, sink, (0, 1))


class Sink:
    """Keeps what is pushed, and can be out of reach."""

    def __init__(self) -> None:
        self.items: dict[str, StoredItem] = {}
        self.down, self.pushed = False, 0

    def push(self, items: Sequence[StoredItem]) -> None:
        if self.down:
            raise Unavailable("the online store is down")
        self.pushed += len(items)
        self.items.update((item.item_id, item) for item in items)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path)
    yield opened
    opened.log.close()
    opened.profiles.close()


def drain(processor: Processor) -> None:
    while processor.step():
        pass


def some_events(rng: random.Random, *, start: int, users: int = 5) -> list[Event]:
    return [
        event(f"u{number % users}", number, rng.choice(NAMES), *rng.choices(ITEMS, k=rng.randrange(1, 4)))
        for number in range(start, start + 40)
    ]


def folded(events: Sequence[Event]) -> dict[str, ItemState]:
    def state_of(item: str) -> ItemState:
        return reduce(lambda state, one: count(state, one, item_id=ItemId(item)), events, UNKNOWN)

    return {item: state_of(item) for item in ITEMS if state_of(item) != UNKNOWN}


def test_every_event_counts_once_over_crashes_and_repeated_messages(stores: Stores) -> None:
    rng, sent = random.Random(3), list[Event]()
    for round_ in range(6):
        fresh = some_events(rng, start=40 * round_)
        sent += fresh
        stores.log.append([as_message(one) for one in (*fresh, *rng.sample(sent, 5))])
        processor = stores.processor()
        drain(processor)
        if round_ % 2:
            processor.close()  # the others end as at a kill: what they gathered is lost
    stores.processor().close()
    assert stores.states() == folded(sent) == dict(item_states_at(stores.lake, LATER_MS))


@pytest.mark.parametrize("stands", [False, True])
def test_a_crash_around_the_count_neither_loses_nor_repeats_it(stores: Stores, stands: bool) -> None:
    stores.buy("tea", "tea", "jam")
    processor = stores.processor()
    drain(processor)
    move = stores.profiles.move_events_from

    def killed(*arguments: object) -> None:
        if stands:
            move(*arguments)  # type: ignore[arg-type]
        pytest.fail("killed")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stores.profiles, "move_events_from", killed)
        with pytest.raises(pytest.fail.Exception):
            processor.close()
    stores.apply()
    assert {item: state.totals for item, state in stores.states().items()} == {
        "tea": {"purchase": 2},
        "jam": {"purchase": 1},
    }


def test_a_process_that_was_replaced_counts_nothing(stores: Stores) -> None:
    stores.buy("tea")
    replaced = stores.processor()
    drain(replaced)
    stores.apply()
    with pytest.raises(Exception, match="another process applies this partition"):
        replaced.close()
    assert stores.states()["tea"].totals == {"purchase": 1}


def test_people_of_two_partitions_make_one_item(stores: Stores) -> None:
    for number in range(12):
        stores.buy("tea", number=number, user=f"u{number}")
    stores.apply()
    (tea,) = stores.profiles.items(["tea"])
    assert (len(tea.parts), tea.state.totals) == (2, {"purchase": 12})


def test_what_was_counted_goes_online_once(stores: Stores) -> None:
    sink = Sink()
    stores.buy("tea", "jam")
    stores.apply()
    delivery = stores.delivery(sink)
    delivery.deliver()
    delivery.deliver()
    assert (sorted(sink.items), sink.pushed, delivery.complete) == (["jam", "tea"], 2, True)
    stores.buy("jam", number=1)
    stores.apply()
    delivery.deliver()
    assert (sink.items["jam"].state.totals, sink.pushed) == ({"purchase": 2}, 3)


def test_items_catch_up_when_the_store_is_back(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    sink.down = True
    stores.buy("tea")
    stores.apply()
    delivery = stores.delivery(sink)
    delivery.deliver()
    delivery.deliver()
    assert (delivery.behind, delivery.complete) == ("the online store is down", False)
    assert caplog.text.count("behind") == 1
    sink.down = False
    delivery.deliver()
    assert (delivery.behind, delivery.complete, list(sink.items)) == (None, True, ["tea"])


def test_a_delivery_ends_when_its_time_is_up_and_the_next_goes_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_delivery, "PUSH_ITEMS", 2)
    sink = Sink()
    stores.buy("a", "b", "c")
    stores.apply()
    delivery = stores.delivery(sink)
    delivery.deliver(for_s=0)
    assert (len(sink.items), delivery.complete) == (2, False)
    delivery.deliver(for_s=0)
    delivery.deliver(for_s=0)
    assert (len(sink.items), delivery.complete) == (3, True)


def test_online_reads_what_the_lake_says_of_the_past(stores: Stores, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    apply_feature_repo(settings)
    online, events = OnlineItems(settings), some_events(random.Random(4), start=0)
    stores.log.append([as_message(one) for one in events])
    stores.apply()
    stores.delivery(online).deliver(for_s=60)
    at_ms = max(one.received_ms for one in events) + 1
    found = online.read([ItemId(item) for item in ITEMS], at_ms=at_ms)
    assert {item: one.state for item, one in found.items()} == dict(item_states_at(stores.lake, at_ms))
    online.close()
