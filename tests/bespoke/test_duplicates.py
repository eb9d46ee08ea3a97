"""Near-duplicates: the same deed within a moment, and everything that only looks like it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.duplicates import DEFAULT_EVENTS, NearDuplicates, near_duplicate
from bespoke.events import Event, EventType, MessageId, lines_of
from bespoke.profiles import EMPTY, Profile, fold

AT_MS = 1_700_000_000_000


def event(at_ms: int = 0, name: str = "Product Viewed", **changes: Any) -> Event:
    products = changes.pop("products", [{"product_id": "a", "quantity": 2, "price": 1.5}])
    properties = {"products": products}
    return Event(
        message_id=MessageId(f"m{at_ms}"),
        type=EventType.TRACK,
        name=name,
        user_id="u1",
        anonymous_id=None,
        at_ms=AT_MS + at_ms,
        received_ms=AT_MS + at_ms,
        properties=properties,
        lines=lines_of(EventType.TRACK, name, properties),
        **changes,
    )


def after(*events: Event) -> Profile:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    return profile


@pytest.mark.parametrize(
    ("apart_ms", "found"), [(0, True), (2_000, True), (-2_000, True), (2_001, False), (-2_001, False)]
)
def test_the_same_deed_is_found_up_to_the_bound_in_both_directions(apart_ms: int, found: bool) -> None:
    assert near_duplicate(after(event()), event(apart_ms), within_ms=2_000) is found


@pytest.mark.parametrize(
    "other",
    [
        event(1, name="Product Clicked"),
        event(1, products=[{"product_id": "b", "quantity": 2, "price": 1.5}]),
        event(1, products=[{"product_id": "a", "quantity": 3, "price": 1.5}]),
        event(1, products=[{"product_id": "a", "quantity": 2, "price": 1.4}]),
        event(1, products=[{"product_id": "a", "quantity": 2}]),
        event(1, products=[{"product_id": "a", "quantity": 2, "price": 1.5}] * 2),
        event(1, products=[{"product_id": "a", "quantity": 2, "price": 1.5}, {"product_id": "b"}]),
        event(1, name="Signed Up", products=[]),
        event(1, source="file:history"),
    ],
)
def test_what_differs_in_anything_is_another_deed(other: Event) -> None:
    assert not near_duplicate(after(event()), other, within_ms=2_000)


def test_a_person_without_history_repeats_nothing() -> None:
    assert not near_duplicate(EMPTY, event(), within_ms=2_000)


def test_a_late_repeat_is_found_below_newer_lines() -> None:
    profile = after(event(), *(event(minute * 60_000, name="Product Clicked") for minute in range(1, 80)))
    assert near_duplicate(profile, event(1_000), within_ms=2_000)
    assert not near_duplicate(profile, event(30_000), within_ms=2_000)


def test_two_presses_on_add_are_two_pieces() -> None:
    added = event(name="Product Added")
    assert not NearDuplicates().found(after(added), replace(added, at_ms=added.at_ms + 500))
    assert NearDuplicates(events=[*DEFAULT_EVENTS, "Product Added"]).found(after(added), added)


def test_zero_turns_it_off() -> None:
    assert not NearDuplicates(within_ms=0).found(after(event()), event())


@given(
    st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from("ab")), max_size=30),
    st.tuples(st.integers(0, 9_000), st.sampled_from("ab")),
)
def test_it_finds_what_a_look_at_every_line_finds(had: list[tuple[int, str]], new: tuple[int, str]) -> None:
    def viewed(at_ms: int, item: str) -> Event:
        return event(at_ms, products=[{"product_id": item}])

    expected = any(item == new[1] and abs(at_ms - new[0]) <= 500 for at_ms, item in had)
    assert near_duplicate(after(*(viewed(*one) for one in had)), viewed(*new), within_ms=500) is expected
