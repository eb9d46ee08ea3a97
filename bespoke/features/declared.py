"""The features, declared: the one list that the vector, the feature store's page and segments go by."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from bespoke.features.decay import HALF_LIFE_DAYS, decay
from bespoke.features.feature import Derive, Feature, FeatureType, Moves, SourceType, ages, fades, leaves
from bespoke.features.reading import CART_DAYS, SESSION_GAP_MS, Reading
from bespoke.profiles import MICROS, UNPRICED, Profile, Recent

WINDOWS: Mapping[str, tuple[int, str]] = {
    "10m": (10 * MINUTE_MS, "10 minutes"),
    "1h": (HOUR_MS, "hour"),
    "1d": (DAY_MS, "24 hours"),
    "7d": (7 * DAY_MS, "7 days"),
    "30d": (30 * DAY_MS, "30 days"),
}
_COUNTED: Mapping[str, tuple[str, str]] = {
    "views": ("view", "items viewed"),
    "carts": ("add_to_cart", "items put into a cart"),
    "purchases": ("purchase", "lines bought"),
}
QUARTER_MS = 90 * DAY_MS
DAY_PARTS: Mapping[str, tuple[int, int]] = {
    "night": (0, 6),
    "morning": (6, 12),
    "afternoon": (12, 18),
    "evening": (18, 24),
}


def _age(name: str, meaning: str, unit: str, then: Callable[[Reading], int | None], unit_ms: float) -> Feature:
    def derive(reading: Reading) -> float:
        then_ms = then(reading)
        return math.nan if then_ms is None else max(reading.at_ms - then_ms, 0) / unit_ms

    return Feature(name, meaning, unit, derive, ages(then, unit_ms))


def _last_day_ms(profile: Profile, interaction: str) -> int | None:
    return max((day * DAY_MS for day, kind in profile.day_counts if kind == interaction), default=None)


def _revenue(reading: Reading) -> float:
    return max(reading.profile.revenue_micros - reading.profile.refunded_micros, 0) / MICROS


def _over(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _decayed(interaction: str) -> Derive:
    def derive(reading: Reading) -> float:
        return math.fsum(
            n * decay(reading.at_ms - day * DAY_MS, half_life_days=HALF_LIFE_DAYS)
            for (day, kind), n in reading.profile.day_counts.items()
            if kind == interaction
        )

    return derive


def _repeat_share(reading: Reading) -> float:
    items = Counter(entry.item_id for entry in reading.liked)
    return _over(sum(n for n in items.values() if n > 1), len(reading.liked))


def _in_quarter(counts: Mapping[tuple[int, str], int], at_ms: int) -> set[tuple[int, str]]:
    return {key for key in counts if (key[0] + 1) * WEEK_MS > at_ms - QUARTER_MS}


def _names_in_quarter(label: str) -> Derive:
    return lambda reading: len({name for _, name in _in_quarter(getattr(reading.profile, label), reading.at_ms)})


def _names_leave(label: str) -> Moves:
    def when(reading: Reading) -> int | None:
        weeks = [week for week, _ in _in_quarter(getattr(reading.profile, label), reading.at_ms)]
        return (min(weeks) + 1) * WEEK_MS + QUARTER_MS if weeks else None

    return leaves(when)


def _oldest_line_leaves(window_ms: int, *interactions: str) -> Moves:
    return leaves(
        lambda reading: min(
            (entry.at_ms + window_ms for entry in reading.lines_since(window_ms, *interactions)), default=None
        )
    )


def _spent(window_ms: int) -> Derive:
    def derive(reading: Reading) -> float:
        bought = reading.lines_since(window_ms, "purchase")
        return sum(entry.price_micros * entry.quantity for entry in bought if entry.price_micros != UNPRICED) / MICROS

    return derive


def _orders(window_ms: int) -> Derive:
    return lambda reading: len({entry.at_ms for entry in reading.lines_since(window_ms, "purchase")})


def _sessions(window_ms: int) -> Derive:
    return lambda reading: sum(session.end_ms > reading.at_ms - window_ms for session in reading.sessions)


def _session_leaves(window_ms: int) -> Moves:
    return leaves(
        lambda reading: min(
            (session.end_ms + window_ms for session in reading.sessions if session.end_ms > reading.at_ms - window_ms),
            default=None,
        )
    )


def _session_ends(reading: Reading) -> int | None:
    return reading.sessions[-1].end_ms + SESSION_GAP_MS if reading.sessions else None


def _in_session(reading: Reading) -> float:
    ends_ms = _session_ends(reading)
    return float(ends_ms is not None and reading.at_ms < ends_ms)


def _session_minutes(reading: Reading) -> float:
    if not reading.sessions:
        return math.nan
    return (reading.sessions[-1].end_ms - reading.sessions[-1].start_ms) / MINUTE_MS


def _price_mean(reading: Reading) -> float:
    return _over(sum(reading.prices) / MICROS, len(reading.prices))


def _price_bought(reading: Reading) -> float:
    bought = reading.by_interaction.get("purchase", ())
    prices = [entry.price_micros for entry in bought if entry.price_micros != UNPRICED]
    return _over(sum(prices) / MICROS, len(prices))


def _cart_value(reading: Reading) -> float:
    return sum(line.quantity * max(line.price_micros, 0) for line in reading.cart.values()) / MICROS


def _last_added_ms(reading: Reading) -> int | None:
    return max((line.added_ms for line in reading.cart.values()), default=None)


def _cart_changes(reading: Reading, value: float, level: float | None) -> int | None:
    times = [moves(reading, value, level) for moves in (_CART_LEAVES, ages(_last_added_ms, MINUTE_MS))]
    return min((at_ms for at_ms in times if at_ms is not None), default=None)


_CART_LEAVES = _oldest_line_leaves(CART_DAYS * DAY_MS, "add_to_cart", "remove_from_cart", "purchase")


def _hour_share(first: int, end: int) -> Derive:
    return lambda reading: _over(sum(reading.profile.hours[first:end]), sum(reading.profile.hours))


def _favourite_hour(reading: Reading) -> float:
    hours = reading.profile.hours
    return float(hours.index(max(hours))) if hours else math.nan


def _device_share(name: str) -> Derive:
    def derive(reading: Reading) -> float:
        devices = reading.profile.devices
        return _over(devices[name].events if name in devices else 0, sum(use.events for use in devices.values()))

    return derive


def _device(reading: Reading) -> str | None:
    devices = reading.profile.devices
    return max(devices, key=lambda name: (devices[name].last_ms, name), default=None)


def _strongest(affinity: Mapping[str, float]) -> str | None:
    return max(affinity, key=lambda name: (affinity[name], name), default=None)


def _last_item(interaction: str) -> Derive:
    def derive(reading: Reading) -> str | None:
        entries: Sequence[Recent] = reading.by_interaction.get(interaction, ())
        return entries[-1].item_id if entries else None

    return derive


def _windowed() -> Iterator[Feature]:
    for name, (kind, meaning) in _COUNTED.items():
        for suffix, (window_ms, words) in WINDOWS.items():
            yield Feature(
                f"{name}_{suffix}",
                f"{meaning} in the last {words}",
                "lines",
                _count(kind, window_ms),
                _bucket_leaves(kind, window_ms),
            )
    for suffix in ("10m", "1h", "1d", "7d"):
        window_ms, words = WINDOWS[suffix]
        meaning = f"lines, and events about no item, in the last {words}"
        yield Feature(f"events_{suffix}", meaning, "events", _count(None, window_ms), _bucket_leaves(None, window_ms))


def _count(kind: str | None, window_ms: int) -> Derive:
    return lambda reading: reading.count(kind, window_ms)


def _bucket_leaves(kind: str | None, window_ms: int) -> Moves:
    return leaves(lambda reading: reading.oldest_leaves_ms(kind, window_ms))


def _text(name: str, meaning: str, derive: Callable[[Reading], str | None], source: SourceType) -> Feature:
    return Feature(name, meaning, "name", derive, type=FeatureType.TEXT, source=source)


def _last_purchase_ms(reading: Reading) -> int | None:
    return _last_day_ms(reading.profile, "purchase")


_RECENCY = (
    _age("recency_days", "time since the last event", "days", lambda reading: reading.profile.last_ms, DAY_MS),
    _age("tenure_days", "time since the first event", "days", lambda reading: reading.profile.first_ms, DAY_MS),
    _age("days_since_purchase", "time since the day of the last purchase", "days", _last_purchase_ms, DAY_MS),
)
_MONEY = (
    Feature("orders", "orders so far", "orders", lambda reading: reading.profile.orders),
    Feature(
        "orders_90d",
        "orders in the last 90 days, of those whose lines are kept",
        "orders",
        _orders(QUARTER_MS),
        _oldest_line_leaves(QUARTER_MS, "purchase"),
    ),
    Feature("revenue", "money spent so far, less refunds", "currency", _revenue),
    Feature(
        "revenue_30d",
        "money spent in the last 30 days, on lines that are kept",
        "currency",
        _spent(30 * DAY_MS),
        _oldest_line_leaves(30 * DAY_MS, "purchase"),
    ),
    Feature(
        "revenue_90d",
        "money spent in the last 90 days, on lines that are kept",
        "currency",
        _spent(QUARTER_MS),
        _oldest_line_leaves(QUARTER_MS, "purchase"),
    ),
    Feature(
        "order_value",
        "mean money per order",
        "currency",
        lambda reading: _over(_revenue(reading), reading.profile.orders),
    ),
    Feature("price_mean", "mean price of the recent items", "currency", _price_mean),
    Feature(
        "price_level",
        "mean price of what was bought, over that of all recent items",
        "ratio",
        lambda reading: _over(_price_bought(reading), _price_mean(reading)),
    ),
)
_TASTE = (
    Feature(
        "purchases_decayed",
        f"lines bought, halved every {HALF_LIFE_DAYS:.0f} days",
        "lines",
        _decayed("purchase"),
        fades,
    ),
    Feature("views_decayed", f"items viewed, halved every {HALF_LIFE_DAYS:.0f} days", "lines", _decayed("view"), fades),
    Feature(
        "carts_decayed",
        f"items put into a cart, halved every {HALF_LIFE_DAYS:.0f} days",
        "lines",
        _decayed("add_to_cart"),
        fades,
    ),
    Feature(
        "distinct_items_30d",
        "different items among the lines of the last 30 days",
        "items",
        lambda reading: len({entry.item_id for entry in reading.lines_since(30 * DAY_MS)}),
        _oldest_line_leaves(30 * DAY_MS),
    ),
    Feature("repeat_share", "share of recent lines whose item occurs more than once", "share", _repeat_share),
    Feature(
        "categories_90d",
        "different categories in the last 90 days",
        "categories",
        _names_in_quarter("category_counts"),
        _names_leave("category_counts"),
    ),
    Feature(
        "top_category_share",
        "share of the strongest category, by decayed counts",
        "share",
        lambda reading: max(reading.category_affinity.values(), default=math.nan),
    ),
    Feature(
        "brands_90d",
        "different brands in the last 90 days",
        "brands",
        _names_in_quarter("brand_counts"),
        _names_leave("brand_counts"),
    ),
    Feature(
        "top_brand_share",
        "share of the strongest brand, by decayed counts",
        "share",
        lambda reading: max(reading.brand_affinity.values(), default=math.nan),
    ),
)
_VISITS = (
    Feature(
        "sessions_7d", "sessions in the last 7 days", "sessions", _sessions(7 * DAY_MS), _session_leaves(7 * DAY_MS)
    ),
    Feature(
        "sessions_30d", "sessions in the last 30 days", "sessions", _sessions(30 * DAY_MS), _session_leaves(30 * DAY_MS)
    ),
    Feature("session_minutes", "length of the last session", "minutes", _session_minutes),
    Feature(
        "in_session",
        "1 while a session goes on: nothing for 30 minutes ends it",
        "0 or 1",
        _in_session,
        leaves(lambda reading: _session_ends(reading) if _in_session(reading) else None),
    ),
    Feature("cart_items", "different items in the cart", "items", lambda reading: len(reading.cart), _CART_LEAVES),
    Feature("cart_value", "price of what is in the cart", "currency", _cart_value, _CART_LEAVES),
    replace(
        _age("cart_minutes", "time since the last item in the cart was put in", "minutes", _last_added_ms, MINUTE_MS),
        moves=_cart_changes,
    ),
)
_CONTEXT = (
    *(
        Feature(
            f"{part}_share",
            f"share of events from {first} to {end} o'clock",
            "share",
            _hour_share(first, end),
            source=SourceType.CONTEXTUAL,
        )
        for part, (first, end) in DAY_PARTS.items()
    ),
    Feature(
        "favourite_hour",
        "hour of the day with the most events",
        "hour",
        _favourite_hour,
        source=SourceType.CONTEXTUAL,
    ),
    Feature(
        "mobile_share", "share of events from a phone", "share", _device_share("mobile"), source=SourceType.CONTEXTUAL
    ),
)
_TEXTS = (
    _text(
        "top_category",
        "strongest category, by decayed counts",
        lambda reading: _strongest(reading.category_affinity),
        SourceType.BEHAVIOURAL,
    ),
    _text(
        "top_brand",
        "strongest brand, by decayed counts",
        lambda reading: _strongest(reading.brand_affinity),
        SourceType.BEHAVIOURAL,
    ),
    _text("last_viewed", "item viewed last", _last_item("view"), SourceType.BEHAVIOURAL),
    _text("last_carted", "item put into a cart last", _last_item("add_to_cart"), SourceType.BEHAVIOURAL),
    _text("last_purchased", "item bought last", _last_item("purchase"), SourceType.BEHAVIOURAL),
    _text("device", "kind of device used last", _device, SourceType.CONTEXTUAL),
)
FEATURES: tuple[Feature, ...] = (
    *_RECENCY,
    *_MONEY,
    *_windowed(),
    *_TASTE,
    *_VISITS,
    *_CONTEXT,
    Feature(
        "traits_known",
        "how many traits are known",
        "traits",
        lambda reading: len(reading.profile.traits),
        source=SourceType.DEMOGRAPHIC,
    ),
    *_TEXTS,
)
"""Every feature, numbers first."""
