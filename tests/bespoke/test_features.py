"""Features follow from state and time alone."""

import math

import pytest

from bespoke.clock import DAY_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.features import FEATURE_NAMES, category_affinity, features
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
