"""Profiles depend on which events there were, not on the order in which they came."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke import profiles
from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import EMPTY, Location, Profile, fold, from_row, merge, to_row
from bespoke.profiles import profile as bounds

NAMES = ("Product Viewed", "Product Added", "Order Completed", "Newsletter Opened")


def event(
    at_ms: int,
    *items: str,
    name: str = "Order Completed",
    traits: dict[str, object] | None = None,
    price: float = 0.1,
    context: dict[str, object] | None = None,
) -> Event:
    return Event(
        message_id=MessageId(f"{at_ms}"),
        type=EventType.TRACK if traits is None else EventType.IDENTIFY,
        name=name if traits is None else None,
        user_id="u",
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=at_ms + 5,
        traits=traits or {},
        context=context or {},
        lines=tuple(Line(ItemId(item), 1.0, price, f"c{item}", f"b{item}") for item in items),
    )


def folded(events: list[Event]) -> Profile:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    return profile


contexts = st.fixed_dictionaries(
    {},
    optional={
        "timezone": st.sampled_from(["Asia/Tokyo", "nowhere", 7]),
        "device": st.sampled_from([{"type": "mobile"}, {"type": "Fridge"}, {"type": 1}, "tv"]),
        "location": st.sampled_from([{"latitude": 52.5, "longitude": 13.4}, {"latitude": -0.001, "longitude": 0}, {}]),
    },
)
events = st.builds(
    event,
    st.integers(0, 40 * DAY_MS) | st.integers(39 * DAY_MS, 39 * DAY_MS + 3 * HOUR_MS),
    st.sampled_from("abcdef"),
    st.sampled_from("abcdef"),
    name=st.sampled_from(NAMES),
    traits=st.none() | st.dictionaries(st.sampled_from("xyzvw"), st.integers(0, 9), max_size=3),
    price=st.floats(0, 10),
    context=contexts,
)


@pytest.fixture(scope="module", autouse=True)
def small_limits() -> Iterator[None]:
    """So few keys are kept that dropping them is the rule."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "OTHER_LIMIT",
            "MINUTE_KEYS",
            "HOUR_KEYS",
            "DAY_KEYS",
            "NAME_DAY_KEYS",
            "CATEGORY_KEYS",
            "SLOT_KEYS",
        ):
            patch.setattr(bounds, name, 4)
        patch.setattr(bounds, "TRAIT_KEYS", 4)
        patch.setattr(bounds, "RECENT_LIMITS", {"purchase": 4, "view": 3})
        yield


@given(st.lists(events, max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(arrived: list[Event], rng: random.Random) -> None:
    shuffled = list(arrived)
    rng.shuffle(shuffled)
    assert folded(shuffled) == folded(arrived)


@given(st.lists(events, max_size=20), st.lists(events, max_size=20))
def test_merging_equals_folding_the_union(one: list[Event], other: list[Event]) -> None:
    assert merge(folded(one), folded(other)) == folded(one + other)
    assert merge(folded(other), folded(one)) == folded(one + other)


@given(st.lists(events, max_size=20))
def test_rows_round_trip(arrived: list[Event]) -> None:
    profile = folded(arrived)
    assert from_row(to_row(profile)) == profile
    assert set(to_row(profile)) == set(profiles.STATE_COLUMNS)


def test_the_newest_lines_are_kept() -> None:
    profile = folded([event(day * DAY_MS, "a") for day in range(10)])
    assert [entry.at_ms // DAY_MS for entry in profile.recent] == [6, 7, 8, 9]
    assert profile.orders == 10


def test_an_empty_row_is_the_empty_profile() -> None:
    assert from_row({}) == EMPTY


def test_the_later_trait_wins() -> None:
    late, early = event(2, traits={"age": 40}), event(1, traits={"age": 39, "city": "Oslo"})
    for order in ([late, early], [early, late]):
        said = {name: trait.value_json for name, trait in folded(order).traits.items()}
        assert said == {"age": "40", "city": '"Oslo"'}


def test_revenue_counts_purchases_only() -> None:
    profile = folded([event(1, "a", "b", price=1.25), event(2, "a", name="Product Viewed", price=9)])
    assert (profile.orders, profile.revenue_micros) == (1, 2_500_000)


def test_revenue_stays_within_what_stores_can_hold() -> None:
    immense = replace(event(1, "a"), lines=(Line(ItemId("a"), 1e12, 1e12),))
    assert folded([immense, event(2, "a")]).revenue_micros == 2**62
    assert merge(folded([immense]), folded([immense])).revenue_micros == 2**62


def test_what_is_given_back_is_no_liking_and_no_revenue() -> None:
    profile = folded([event(1, "a", price=2.0), event(2, "a", name="Order Refunded", price=2.0)])
    assert (profile.revenue_micros, profile.refunded_micros) == (2_000_000, 2_000_000)
    assert set(profile.category_counts.values()) == {1}


def test_each_interaction_keeps_its_own_newest_lines() -> None:
    bought = [event(day, "a") for day in range(3)]
    looked = [event(100 + day, "b", name="Product Viewed") for day in range(10)]
    kinds = [entry.interaction for entry in folded([*looked, *bought]).recent]
    assert kinds == ["purchase"] * 3 + ["view"] * 3


def test_minutes_reach_two_hours_back_from_the_newest_event() -> None:
    profile = folded([event(DAY_MS + minute * MINUTE_MS, "a") for minute in (130, 0, 10, 9)])
    assert sorted(profile.minute_counts) == [(1_440 + minute, "purchase") for minute in (10, 130)]


def test_events_about_no_item_are_counted_under_their_name() -> None:
    profile = folded([event(5, name="Newsletter Opened"), event(6, name="Newsletter Opened")])
    assert profile.name_day_counts == {(0, "Newsletter Opened"): 2}
    assert profile.minute_counts == {(0, "Newsletter Opened"): 2}
    assert profile.day_counts == {}


def test_hours_are_those_of_the_persons_own_time_zone() -> None:
    profile = folded(
        [event(0, context={"timezone": "Asia/Tokyo"}), event(0), event(0, context={"timezone": "nowhere"})]
    )
    assert {hour: n for hour, n in enumerate(profile.hours) if n} == {9: 1, 0: 2}


def test_the_last_place_wins_and_impossible_ones_are_none() -> None:
    places = [(1, 52.52, 13.405), (3, 91, 0), (2, 48.1, 11.58)]
    said = [event(at, context={"location": {"latitude": lat, "longitude": lon}}) for at, lat, lon in places]
    assert folded(said).location == folded(said[::-1]).location == Location(2, 48.1, 11.58)


def test_devices_are_a_closed_set() -> None:
    profile = folded([event(at, context={"device": {"type": kind}}) for at, kind in ((1, "mobile"), (2, "Fridge"))])
    assert profile.devices == {"mobile": (1, 1), "other": (1, 2)}


def test_lines_read_with_fewer_columns_lack_only_those() -> None:
    row = to_row(folded([event(1, "a", price=2.0)]))
    few = {name: row[name] for name in ("recent_ms", "recent_items", "recent_interactions", "recent_quantities")}
    assert [entry.price_micros for entry in from_row(few).recent] == [-1]
