"""Features: what models, segments and reports read of a profile. This is the one place that derives them.

Stores hold state; a feature is derived at the moment it is used, by the same function in training and in serving.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS, WEEK_MS
from bespoke.profiles import MICROS, TAKEN_BACK, Profile

HALF_LIFE_DAYS = 30.0


@dataclass(frozen=True, slots=True)
class Feature:
    """What a feature is."""

    name: str
    meaning: str
    unit: str


FEATURES: tuple[Feature, ...] = (
    Feature("recency_days", "time since the last event", "days"),
    Feature("tenure_days", "time since the first event", "days"),
    Feature("days_since_purchase", "time since the day of the last purchase", "days"),
    Feature("orders", "orders so far", "orders"),
    Feature("revenue", "money spent so far, less refunds", "currency"),
    Feature("order_value", "mean money per order", "currency"),
    Feature("purchases_7d", "lines bought in the last 7 days", "lines"),
    Feature("purchases_30d", "lines bought in the last 30 days", "lines"),
    Feature("views_7d", "items viewed in the last 7 days", "lines"),
    Feature("carts_7d", "items put into a cart in the last 7 days", "lines"),
    Feature("purchases_decayed", "lines bought, halved every 30 days", "lines"),
    Feature("views_decayed", "items viewed, halved every 30 days", "lines"),
    Feature("carts_decayed", "items put into a cart, halved every 30 days", "lines"),
    Feature("distinct_items_30d", "different items among the lines of the last 30 days", "items"),
    Feature("repeat_share", "share of recent lines whose item occurs more than once", "share"),
    Feature("categories_90d", "different categories in the last 90 days", "categories"),
    Feature("top_category_share", "share of the strongest category, by decayed counts", "share"),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)

FeatureVector = npt.NDArray[np.float64]
"""One number per entry of :data:`FEATURES`; NaN where there is nothing to derive it from."""


def features(profile: Profile, at_ms: int) -> FeatureVector:
    """Return the feature vector [F] of ``profile`` as seen at ``at_ms``: NaN and zeros where there are no events."""
    affinity = category_affinity(profile, at_ms)
    revenue = max(profile.revenue_micros - profile.refunded_micros, 0) / MICROS
    liked = [entry for entry in profile.recent if entry.interaction not in TAKEN_BACK]
    month = {entry.item_id for entry in liked if entry.at_ms > at_ms - 30 * DAY_MS}
    quarter = {name for week, name in profile.category_counts if (week + 1) * WEEK_MS > at_ms - 90 * DAY_MS}
    values = {
        "recency_days": _days_since(profile.last_ms, at_ms),
        "tenure_days": _days_since(profile.first_ms, at_ms),
        "days_since_purchase": _days_since(_last_day_ms(profile, "purchase"), at_ms),
        "orders": profile.orders,
        "revenue": revenue,
        "order_value": revenue / profile.orders if profile.orders else np.nan,
        "purchases_7d": _count(profile, "purchase", at_ms, days=7),
        "purchases_30d": _count(profile, "purchase", at_ms, days=30),
        "views_7d": _count(profile, "view", at_ms, days=7),
        "carts_7d": _count(profile, "add_to_cart", at_ms, days=7),
        "purchases_decayed": _decayed(profile, "purchase", at_ms),
        "views_decayed": _decayed(profile, "view", at_ms),
        "carts_decayed": _decayed(profile, "add_to_cart", at_ms),
        "distinct_items_30d": len(month),
        "repeat_share": _repeat_share([entry.item_id for entry in liked]),
        "categories_90d": len(quarter),
        "top_category_share": max(affinity.values(), default=np.nan),
    }
    return np.array([values[name] for name in FEATURE_NAMES], dtype=np.float64)


def category_affinity(profile: Profile, at_ms: int) -> Mapping[str, float]:
    """Return each category's share of the person's lines, by counts that halve every ``HALF_LIFE_DAYS``."""
    mass: dict[str, float] = {}
    for (week, name), count in profile.category_counts.items():
        mass[name] = mass.get(name, 0.0) + count * decay(at_ms - week * WEEK_MS, half_life_days=HALF_LIFE_DAYS)
    total = sum(mass.values())
    return {name: value / total for name, value in mass.items()} if total > 0 else {}


def decay(age_ms: float, *, half_life_days: float) -> float:
    """Return the weight of something ``age_ms`` old; nothing weighs more than 1.

    >>> decay(30 * DAY_MS, half_life_days=30)
    0.5
    """
    return float(0.5 ** (max(age_ms, 0.0) / (half_life_days * DAY_MS)))


def _days_since(then_ms: int | None, at_ms: int) -> float:
    return float("nan") if then_ms is None else max(at_ms - then_ms, 0) / DAY_MS


def _last_day_ms(profile: Profile, interaction: str) -> int | None:
    return max((day * DAY_MS for day, kind in profile.day_counts if kind == interaction), default=None)


def _count(profile: Profile, interaction: str, at_ms: int, *, days: int) -> int:
    first_day = (at_ms - days * DAY_MS) // DAY_MS
    return sum(n for (day, kind), n in profile.day_counts.items() if kind == interaction and day >= first_day)


def _decayed(profile: Profile, interaction: str, at_ms: int) -> float:
    return sum(
        n * decay(at_ms - day * DAY_MS, half_life_days=HALF_LIFE_DAYS)
        for (day, kind), n in profile.day_counts.items()
        if kind == interaction
    )


def _repeat_share(items: Sequence[str]) -> float:
    if not items:
        return float("nan")
    return sum(n for n in Counter(items).values() if n > 1) / len(items)
