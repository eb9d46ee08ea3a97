"""What every profile store keeps of items; a subclass for each engine gives a fixture ``url``."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.items import INTERACTIONS, ItemState, ItemStates, states_of_lines
from storage.item_states import pack_items, unpack_items
from storage.profiles import ProfileStore
from storage.sql import Superseded
from tests.contracts.profiles import batch

DAY_0 = 20_000 * DAY_MS


def bought(*items: str, at_ms: int = DAY_0) -> ItemStates:
    """Return the states of items that were bought so often at one time."""
    ids = sorted(set(items))
    times = np.full(len(items), at_ms, np.int64)
    return states_of_lines(
        ids,
        item_L=np.array([ids.index(item) for item in items], np.int64),
        interaction_L=np.full(len(items), INTERACTIONS.index("purchase"), np.int64),
        at_ms_L=times,
        received_ms_L=times,
    )


class ItemStatesContract:
    """Counting, pushing and forgetting."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[ProfileStore]:
        opened = ProfileStore(url)
        for partition in range(2):
            opened.commit(batch(0, 99, partition=partition))
        yield opened
        opened.close()

    def test_counts_of_batches_and_partitions_add_up(self, store: ProfileStore) -> None:
        store.move_events_from(0, 3, 0, bought("tea", "tea", "jam"))
        store.move_events_from(1, 5, 0, bought("tea", at_ms=DAY_0 + DAY_MS))
        store.move_events_from(0, 7, 3, bought("tea"))
        assert sold(store, "tea", "jam", "milk") == {"tea": 4, "jam": 1}
        (tea,) = store.items(["tea"])
        assert (tea.version, tea.state.sold_ms) == (12, DAY_0 + DAY_MS)

    def test_what_is_gathered_again_counts_once(self, store: ProfileStore) -> None:
        store.move_events_from(0, 3, 0, bought("tea"))
        with pytest.raises(Superseded, match="partition 0"):
            store.move_events_from(0, 3, 0, bought("tea"))
        with pytest.raises(Superseded):
            store.move_events_from(0, 4, 2, bought("tea"))
        assert (sold(store, "tea"), store.events_from(0)) == ({"tea": 1}, 3)

    def test_what_was_counted_waits_for_its_push_once(self, store: ProfileStore) -> None:
        store.move_events_from(0, 3, 0, bought("tea", "jam"))
        store.move_events_from(1, 3, 0, bought("tea"))
        (first,) = store.unpushed_items([0, 1], limit=1)
        waiting = store.unpushed_items([0, 1], limit=9)
        assert first in waiting and sorted(item.item_id for item in waiting) == ["jam", "tea"]
        store.mark_items_pushed(waiting, of_partitions=[0, 1])
        assert store.unpushed_items([0, 1], limit=9) == []
        store.move_events_from(0, 4, 3, bought("jam"))
        assert [item.item_id for item in store.unpushed_items([0, 1], limit=9)] == ["jam"]

    def test_what_is_counted_during_a_push_still_waits(self, store: ProfileStore) -> None:
        store.move_events_from(0, 3, 0, bought("tea"))
        read = store.unpushed_items([0], limit=9)
        store.move_events_from(0, 4, 3, bought("tea"))
        store.mark_items_pushed(read, of_partitions=[0])
        (tea,) = store.unpushed_items([0], limit=9)
        assert tea.state.totals == {"purchase": 2}

    def test_a_partition_of_another_process_is_marked_by_that_one(self, store: ProfileStore) -> None:
        for partition in range(2):
            store.move_events_from(partition, 3, 0, bought("tea"))
        store.mark_items_pushed(store.unpushed_items([0], limit=9), of_partitions=[0])
        assert store.unpushed_items([0], limit=9) == []
        assert len(store.unpushed_items([1], limit=9)) == 1

    def test_every_item_waits_again_once_pushes_are_forgotten(self, store: ProfileStore) -> None:
        store.move_events_from(0, 3, 0, bought("tea"))
        store.mark_items_pushed(store.unpushed_items([0], limit=9), of_partitions=[0])
        store.forget_pushed()
        assert len(store.unpushed_items([0], limit=9)) == 1

    def test_every_item_is_walked_by_id(self, store: ProfileStore) -> None:
        names = [f"item-{n:02}" for n in range(7)]
        store.move_events_from(0, 3, 0, bought(*names))
        store.move_events_from(1, 3, 0, bought(*names[:3]))
        walked = list(store.all_items(at_once=3))
        assert [len(some) for some in walked] == [3, 3, 1]
        assert sorted(item.item_id for some in walked for item in some) == names


def sold(store: ProfileStore, *items: str) -> dict[str, int]:
    """Return how many lines of each item were bought."""
    return {item.item_id: item.state.totals["purchase"] for item in store.items(items)}


def unpacked(states: ItemStates) -> Sequence[tuple[str, ItemState]]:
    """Return the states as they come back from their packed form."""
    return list(unpack_items(states.ids, pack_items(states)))
