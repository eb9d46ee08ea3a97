"""Items' states of the past, from the lake, equal what counting event by event gave at that moment."""

import random
from datetime import timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from bespoke.clock import HOUR_MS, to_ms
from bespoke.events import INTERACTION_OF_NAME, Event, ItemId
from bespoke.items import UNKNOWN, ItemState, count
from bespoke.parsing import parse_event
from storage.item_history import item_states_at
from storage.lake import Lake
from tests.support.messages import DAY_0

ITEMS = [ItemId(f"item-{n}") for n in range(12)]
NAMES = (*INTERACTION_OF_NAME, "Recommendation Viewed", "Song Played")
EVENTS = 600
CUTS = 25


def happened(rng: random.Random, number: int) -> Event:
    """Return an event of the next 80 days that is up to 50 days late."""
    received = DAY_0 + timedelta(seconds=rng.randrange(80 * 86_400))
    products = [{"product_id": item} for item in rng.choices(ITEMS, k=rng.randrange(1, 4))]
    message: dict[str, Any] = {
        "type": "track",
        "event": rng.choice(NAMES),
        "messageId": f"m{number}",
        "userId": f"u{rng.randrange(9)}",
        "timestamp": (received - timedelta(seconds=rng.choice([0, 60, rng.randrange(50 * 86_400)]))).isoformat(),
        "properties": {"products": products},
    }
    return parse_event(message, received_at=received, replay=True)


def folded(events: list[Event]) -> dict[str, ItemState]:
    def state_of(item: ItemId) -> ItemState:
        return reduce(lambda state, one: count(state, one, item_id=item), events, UNKNOWN)

    found = {item: state_of(item) for item in ITEMS}
    return {item: state for item, state in found.items() if state != UNKNOWN}


@pytest.fixture(scope="module")
def events() -> list[Event]:
    rng = random.Random(5)
    return [happened(rng, number) for number in range(EVENTS)]


@pytest.fixture(scope="module")
def lake(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made, half = Lake(tmp_path_factory.mktemp("lake")), EVENTS // 2
    made.write_events(0, 0, half, events[:half])
    made.write_events(1, 0, EVENTS - half, events[half:])
    return made


def test_states_at_any_time_equal_those_that_were_counted(events: list[Event], lake: Lake) -> None:
    rng = random.Random(6)
    cuts = [rng.choice(events).received_ms + rng.choice([0, 1, HOUR_MS]) for _ in range(CUTS)]
    for at_ms in cuts:
        found = dict(item_states_at(lake, at_ms))
        assert found == folded([one for one in events if one.received_ms < at_ms])
        assert found


def test_before_the_first_event_and_without_a_lake_nothing_is_known(lake: Lake, tmp_path: Path) -> None:
    assert dict(item_states_at(lake, to_ms(DAY_0) - 1)) == {}
    assert dict(item_states_at(Lake(tmp_path / "none"), to_ms(DAY_0))) == {}
