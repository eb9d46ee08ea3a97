"""Profiles depend on which events there were, not on the order in which they came."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke import profiles
from bespoke.clock import DAY_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import EMPTY, Profile, fold, from_row, merge, to_row

NAMES = ("Product Viewed", "Product Added", "Order Completed")


def event(
    at_ms: int, *items: str, name: str = "Order Completed", traits: dict[str, object] | None = None, price: float = 0.1
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
        lines=tuple(Line(ItemId(item), 1.0, price, f"c{item}") for item in items),
    )


def folded(events: list[Event]) -> Profile:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    return profile


events = st.builds(
    event,
    st.integers(0, 40 * DAY_MS),
    st.sampled_from("abcdef"),
    st.sampled_from("abcdef"),
    name=st.sampled_from(NAMES),
    traits=st.none() | st.dictionaries(st.sampled_from("xyzvw"), st.integers(0, 9), max_size=3),
    price=st.floats(0, 10),
)


@pytest.fixture(scope="module", autouse=True)
def small_limits() -> Iterator[None]:
    """So few keys are kept that dropping them is the rule."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RECENT_LIMIT", "DAY_KEYS", "CATEGORY_KEYS", "TRAIT_KEYS"):
            patch.setattr(profiles, name, 4)
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
