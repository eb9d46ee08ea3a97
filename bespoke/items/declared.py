"""The features of items, declared: the one list that pages, listings and answers go by."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.items.state import ItemState
from bespoke.profiles import TAKEN_BACK

Derive = Callable[[ItemState, int], float]

BASE_DAYS = 7
"""How many days the mean day of a trend is taken from."""
_COUNTED: Mapping[str, tuple[str, str, tuple[int, ...]]] = {
    "views": ("view", "times viewed", (1, 7, 30)),
    "carts": ("add_to_cart", "times put into a cart", (7, 30)),
    "purchases": ("purchase", "lines bought", (1, 7, 30)),
    "refunds": ("refund", "lines taken back for money", (30,)),
}


@dataclass(frozen=True, slots=True)
class ItemFeature:
    """One feature of an item, a number."""

    name: str
    meaning: str
    unit: str
    derive: Derive

    def of(self, state: ItemState, at_ms: int) -> float:
        """Return the value as seen at ``at_ms``; NaN where there is nothing to derive it from."""
        return float(self.derive(state, at_ms))


def _lines(state: ItemState, at_ms: int, name: str, days: int) -> int:
    """Return how many lines lie in the window: by hours where it is one day, else by UTC days."""
    counts, width_ms = (state.hour_counts, HOUR_MS) if days == 1 else (state.day_counts, DAY_MS)
    first = (at_ms - days * DAY_MS) // width_ms
    return sum(n for (bucket, kind), n in counts.items() if bucket >= first and kind == name)


def _windowed() -> Iterator[ItemFeature]:
    for name, (kind, meaning, windows) in _COUNTED.items():
        for days in windows:
            words = "24 hours" if days == 1 else f"{days} days"
            yield ItemFeature(f"{name}_{days}d", f"{meaning} in the last {words}", "lines", _count(kind, days))


def _count(kind: str, days: int) -> Derive:
    return lambda state, at_ms: _lines(state, at_ms, kind, days)


def _per_view(kind: str) -> Derive:
    def derive(state: ItemState, at_ms: int) -> float:
        views = _lines(state, at_ms, "view", 30)
        return _lines(state, at_ms, kind, 30) / views if views else math.nan

    return derive


def _trend(state: ItemState, at_ms: int) -> float:
    since_ms = at_ms - DAY_MS
    # Whole days that were over when the last 24 hours began: what happened lately is not in its own base.
    end = since_ms // DAY_MS
    lately = sum(
        n for (hour, kind), n in state.hour_counts.items() if hour >= since_ms // HOUR_MS and kind not in TAKEN_BACK
    )
    before = sum(
        n for (day, kind), n in state.day_counts.items() if end - BASE_DAYS <= day < end and kind not in TAKEN_BACK
    )
    return lately / (before / BASE_DAYS) if before else math.nan


def _last_sold_days(state: ItemState, at_ms: int) -> float:
    return math.nan if state.sold_ms is None else max(at_ms - state.sold_ms, 0) / DAY_MS


ITEM_FEATURES: tuple[ItemFeature, ...] = (
    *_windowed(),
    ItemFeature("conversion_30d", "lines bought per view in the last 30 days", "ratio", _per_view("purchase")),
    ItemFeature(
        "cart_rate_30d", "times put into a cart per view in the last 30 days", "ratio", _per_view("add_to_cart")
    ),
    ItemFeature(
        "trend",
        f"interactions of the last 24 hours, over those of the mean of the {BASE_DAYS} whole days before",
        "ratio",
        _trend,
    ),
    ItemFeature("last_sold_days", "time since it was bought last", "days", _last_sold_days),
)
"""Every feature of an item. Refunds, and removals from a cart, count as such and speak for no item."""
