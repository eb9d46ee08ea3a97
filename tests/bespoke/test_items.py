"""Items' states: the same whatever the order, counted one by one or in bulk, and features known by construction."""

import math
import random
from collections.abc import Sequence
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.events import INTERACTION_OF_NAME, Event, EventType, InteractionType, ItemId, Line, MessageId
from bespoke.items import (
    INTERACTIONS,
    ITEM_COLUMNS,
    ITEM_FEATURES,
    UNKNOWN,
    ItemState,
    ItemStates,
    count,
    from_row,
    merge,
    merged,
    states_of_lines,
    to_row,
)

TEA = ItemId("tea")
NOON_MS = 20_000 * DAY_MS + 12 * HOUR_MS
NAME_OF = {interaction: name for name, interaction in INTERACTION_OF_NAME.items()}


def event(interaction: str, *, at_ms: int = NOON_MS, items: Sequence[str] = (TEA,), received_ms: int = 0) -> Event:
    return Event(
        message_id=MessageId("m"),
        type=EventType.TRACK,
        name=NAME_OF[InteractionType(interaction)],
        user_id="u",
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=received_ms or at_ms,
        lines=tuple(Line(ItemId(item)) for item in items),
    )


def state_of(events: Sequence[Event], item: str = TEA) -> ItemState:
    return reduce(lambda state, one: count(state, one, item_id=ItemId(item)), events, UNKNOWN)


def in_bulk(events: Sequence[Event]) -> ItemStates:
    ids = sorted({line.item_id for one in events for line in one.lines})
    lines = [(ids.index(line.item_id), one) for one in events for line in one.lines]
    return states_of_lines(
        ids,
        item_L=np.array([row for row, _ in lines], np.int64),
        interaction_L=np.array([INTERACTIONS.index(one.interaction or "") for _, one in lines], np.int64),
        at_ms_L=np.array([one.at_ms for _, one in lines], np.int64),
        received_ms_L=np.array([one.received_ms for _, one in lines], np.int64),
    )


def values(state: ItemState, at_ms: int = NOON_MS) -> dict[str, float]:
    return {one.name: one.of(state, at_ms) for one in ITEM_FEATURES}


# Ages lie close to where hours and days are dropped, and before 1970 too.
ages = st.one_of(
    st.integers(-HOUR_MS, 3 * DAY_MS), st.integers(38 * DAY_MS, 43 * DAY_MS), st.integers(0, 21_000 * DAY_MS)
)
happened = st.builds(
    lambda age_ms, late_ms, interaction, items: event(
        interaction, at_ms=NOON_MS - age_ms, items=items, received_ms=NOON_MS + late_ms
    ),
    ages,
    st.integers(0, DAY_MS),
    st.sampled_from(INTERACTIONS),
    st.lists(st.sampled_from(["tea", "jam", "milk"]), min_size=1, max_size=3),
)


@given(st.lists(happened, max_size=25), st.randoms(use_true_random=False))
def test_the_state_does_not_depend_on_the_order(events: list[Event], rng: random.Random) -> None:
    shuffled = rng.sample(events, len(events))
    assert state_of(shuffled) == state_of(events)


@given(st.lists(happened, max_size=25), st.integers(0, 25), st.integers(0, 25))
def test_merging_is_commutative_and_associative(events: list[Event], a: int, b: int) -> None:
    first, second = sorted((a, b))
    one, two, three = (state_of(part) for part in (events[:first], events[first:second], events[second:]))
    assert merge(one, two) == merge(two, one)
    assert merge(merge(one, two), three) == merge(one, merge(two, three)) == state_of(events)
    assert merge(one, UNKNOWN) == one


@given(st.lists(happened, max_size=25))
def test_counting_in_bulk_equals_counting_one_by_one(events: list[Event]) -> None:
    found = dict(in_bulk(events))
    assert found == {item: state_of(events, item) for item in {line.item_id for one in events for line in one.lines}}


@given(st.lists(happened, max_size=25), st.lists(st.integers(0, 2), min_size=25, max_size=25))
def test_parts_merge_in_bulk_to_the_whole(events: list[Event], part_of: list[int]) -> None:
    parts = [in_bulk([one for one, p in zip(events, part_of, strict=False) if p == part]) for part in range(3)]
    assert dict(merged(parts)) == dict(in_bulk(events)) == dict(merged(reversed(parts)))


@given(st.lists(happened, max_size=25))
def test_a_row_comes_back_as_the_state_and_has_the_declared_columns(events: list[Event]) -> None:
    row = to_row(state_of(events))
    assert list(row) == list(ITEM_COLUMNS)
    assert from_row(row) == state_of(events)


def test_every_interaction_has_a_code_that_stays() -> None:
    assert set(INTERACTIONS) == {interaction.value for interaction in InteractionType}
    assert INTERACTIONS[:3] == ("view", "click", "add_to_cart")


def test_features_are_unique_and_explained() -> None:
    assert len({one.name for one in ITEM_FEATURES}) == len(ITEM_FEATURES)
    assert all(one.meaning and one.unit for one in ITEM_FEATURES)


def test_counts_and_rates_of_a_month_are_those_of_the_events() -> None:
    days = [(n, "view") for n in (0, 0, 3, 3, 10, 10, 20, 20)] + [(3, "add_to_cart"), (10, "add_to_cart")]
    days += [(0, "purchase"), (20, "purchase"), (33, "view"), (10, "refund"), (10, "remove_from_cart")]
    found = values(state_of([event(kind, at_ms=NOON_MS - n * DAY_MS) for n, kind in days]))
    assert (found["views_1d"], found["views_7d"], found["views_30d"]) == (2, 4, 8)
    assert (found["carts_7d"], found["carts_30d"], found["refunds_30d"]) == (1, 2, 1)
    assert (found["purchases_1d"], found["purchases_7d"], found["purchases_30d"]) == (1, 1, 2)
    assert (found["conversion_30d"], found["cart_rate_30d"], found["last_sold_days"]) == (0.25, 0.25, 0)


def test_a_trend_holds_the_last_day_against_the_mean_of_the_seven_before() -> None:
    before = [event("view", at_ms=NOON_MS - n * DAY_MS - 13 * HOUR_MS) for n in range(1, 8)]
    lately = [event("purchase", at_ms=NOON_MS - hour * HOUR_MS) for hour in range(3)]
    assert values(state_of([*before, *lately]))["trend"] == 3
    assert values(state_of(before))["trend"] == 0
    assert math.isnan(values(state_of(lately))["trend"])


@pytest.mark.parametrize("kind", ["refund", "remove_from_cart"])
def test_what_is_taken_back_makes_no_trend_and_no_sale(kind: str) -> None:
    events = [event("view", at_ms=NOON_MS - 3 * DAY_MS), *(event(kind, at_ms=NOON_MS) for _ in range(9))]
    found = values(state_of(events))
    assert (found["trend"], found["purchases_30d"]) == (0, 0)
    assert math.isnan(found["last_sold_days"])


def test_where_nothing_was_seen_rates_are_unknown_and_counts_zero() -> None:
    found = values(UNKNOWN)
    unknown = {"conversion_30d", "cart_rate_30d", "trend", "last_sold_days"}
    assert {name for name, value in found.items() if math.isnan(value)} == unknown
    assert {value for name, value in found.items() if name not in unknown} == {0}


def test_a_state_keeps_bounded_hours_and_days_and_whole_totals() -> None:
    state = state_of([event("view", at_ms=NOON_MS - hours * HOUR_MS) for hours in range(0, 2_000)])
    assert (len(state.hour_counts), len(state.day_counts), state.totals) == (50, 41, {"view": 2_000})
