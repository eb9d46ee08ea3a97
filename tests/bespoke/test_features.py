"""Features follow from state and time alone."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.features import FEATURE_NAMES, FEATURE_OF, FeatureType, Reading, category_affinity, features
from bespoke.profiles import EMPTY, Profile, fold

DAY_0 = 20_000 * DAY_MS


def bought(profile: Profile, day: int, *items: str, name: str = "Order Completed") -> Profile:
    lines = tuple(Line(ItemId(item), 2.0, 3.0, item.upper()) for item in items)
    at_ms = DAY_0 + day * DAY_MS
    return fold(profile, Event(MessageId("m"), EventType.TRACK, name, "u", None, at_ms, at_ms, lines=lines))


def at(profile: Profile, day: int) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, features(profile, DAY_0 + day * DAY_MS).tolist(), strict=True))


def test_hand_computed_case() -> None:
    profile = bought(bought(bought(EMPTY, 0, "a", "b"), 25, "a"), 29, "c", name="Product Viewed")
    seen = at(profile, 30)
    assert (seen["recency_days"], seen["tenure_days"], seen["days_since_purchase"]) == (1, 30, 5)
    assert (seen["orders"], seen["revenue"], seen["order_value"]) == (2, 18, 9)
    assert (seen["purchases_7d"], seen["purchases_30d"], seen["views_7d"]) == (1, 3, 1)
    assert seen["purchases_decayed"] == pytest.approx(2 * 0.5 + 0.5 ** (5 / 30))
    assert seen["distinct_items_30d"] == 2
    assert seen["repeat_share"] == 0.5


def test_the_same_state_ages() -> None:
    profile = bought(EMPTY, 0, "a")
    assert at(profile, 31)["purchases_30d"] == 0
    assert at(profile, 60)["recency_days"] == 60


def test_nobody_has_no_recency() -> None:
    seen = at(EMPTY, 0)
    assert math.isnan(seen["recency_days"])
    assert math.isnan(seen["top_category_share"])
    assert seen["orders"] == 0


def test_category_affinity_is_a_share_that_fades() -> None:
    profile = bought(bought(EMPTY, 0, "a"), 35, "b", "b")
    affinity = category_affinity(profile, DAY_0 + 35 * DAY_MS)
    assert sum(affinity.values()) == pytest.approx(1)
    assert affinity["B"] > 2 / 3


def event(at_ms: int, name: str, *items: str, quantity: float = 1.0, price: float | None = 2.0) -> Event:
    lines = tuple(Line(ItemId(item), quantity, price, f"c-{item}", f"b-{item}") for item in items)
    return Event(MessageId("m"), EventType.TRACK, name, "u", None, DAY_0 + at_ms, DAY_0 + at_ms, lines=lines)


def of(at_ms: int, *events: Event) -> dict[str, object]:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    reading = Reading(profile, DAY_0 + at_ms)
    return {name: feature.of(reading) for name, feature in FEATURE_OF.items()}


def test_windows_lose_whole_buckets() -> None:
    viewed = event(30_000, "Product Viewed", "a")
    assert of(10 * MINUTE_MS + 59_999, viewed)["views_10m"] == 1
    assert of(11 * MINUTE_MS, viewed)["views_10m"] == 0
    assert (of(25 * HOUR_MS - 1, viewed)["views_1d"], of(25 * HOUR_MS, viewed)["views_1d"]) == (1, 0)


def test_the_cart_holds_what_was_added_and_neither_taken_out_nor_bought() -> None:
    seen = of(
        5 * MINUTE_MS,
        event(0, "Product Added", "a", "b", "c"),
        event(1, "Product Added", "a", quantity=2.0),
        event(2, "Product Removed", "b"),
        event(3, "Order Completed", "c"),
    )
    assert (seen["cart_items"], seen["cart_value"], seen["last_carted"]) == (1, 6.0, "a")
    assert seen["cart_minutes"] == pytest.approx((5 * MINUTE_MS - 1) / MINUTE_MS)


def test_sessions_end_after_a_pause_of_half_an_hour() -> None:
    clicks = [event(minute * MINUTE_MS, "Product Viewed", "a") for minute in (0, 20, 50, 120)]
    seen = of(124 * MINUTE_MS, *clicks)
    assert (seen["sessions_7d"], seen["session_minutes"], seen["in_session"]) == (2, 5, 1)
    assert of(155 * MINUTE_MS, *clicks)["in_session"] == 0


def test_money_within_windows_counts_known_prices() -> None:
    orders = [event(0, "Order Completed", "a", "b", price=3.0), event(DAY_MS, "Order Completed", "c", price=None)]
    seen = of(2 * DAY_MS, *orders)
    assert (seen["revenue_30d"], seen["orders_90d"], seen["price_level"]) == (6, 2, 1)


def test_texts_name_the_strongest_and_the_last() -> None:
    seen = of(
        10, event(0, "Product Viewed", "a"), event(1, "Product Viewed", "b", "b"), event(2, "Order Completed", "a")
    )
    assert (seen["top_category"], seen["last_viewed"], seen["last_purchased"], seen["device"]) == (
        "c-b",
        "b",
        "a",
        None,
    )


times = st.integers(0, 100 * DAY_MS) | st.integers(0, 3 * HOUR_MS)
histories = st.lists(
    st.builds(
        event,
        times,
        st.sampled_from(["Product Viewed", "Product Added", "Product Removed", "Order Completed"]),
        st.sampled_from("abc"),
    ),
    min_size=1,
    max_size=12,
)


@given(histories, times, st.floats(-1, 40), st.sampled_from(sorted(FEATURE_OF)), st.floats(0, 1))
def test_no_feature_crosses_a_level_before_it_says(
    events: list[Event], after_ms: int, level: float, name: str, share: float
) -> None:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    feature, at_ms = FEATURE_OF[name], DAY_0 + max(event.at_ms - DAY_0 for event in events) + after_ms
    now = feature.of(Reading(profile, at_ms))
    changes_ms = feature.next_change_ms(Reading(profile, at_ms), level)
    assert changes_ms is None or changes_ms > at_ms
    until_ms = at_ms + 200 * DAY_MS if changes_ms is None else changes_ms - 1
    then = feature.of(Reading(profile, at_ms + int(share * (until_ms - at_ms))))
    if feature.type is FeatureType.TEXT:
        return
    assert isinstance(now, int | float) and isinstance(then, int | float)
    if math.isnan(now):
        assert math.isnan(then)
    elif abs(then - level) > 1e-9 and abs(now - level) > 1e-9:
        assert (now > level) == (then > level)


@given(histories, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_feature_in_any_digit(events: list[Event], rng: random.Random) -> None:
    shuffled, one, other = list(events), EMPTY, EMPTY
    rng.shuffle(shuffled)
    for first, second in zip(events, shuffled, strict=True):
        one, other = fold(one, first), fold(other, second)
    at_ms = DAY_0 + 101 * DAY_MS
    assert features(one, at_ms).tobytes() == features(other, at_ms).tobytes()
