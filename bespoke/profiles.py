"""Profiles: what is known of one person, as state that folds events in and yields features at any time.

State is built from structures whose value depends on the set of events alone, never on the order of their arrival:
largest and smallest times, integer counters, last-writer-wins traits, and collections that keep only their newest keys.
A key that was dropped can never come back, because the newer keys that displaced it never leave; so dropping early and
dropping late give the same result.

What is approximate, and by how much: windowed counts are kept by UTC day (an event counts until its whole day has left
the window), category counts by week; the collections hold the newest ``RECENT_LIMIT`` lines, ``DAY_KEYS`` (day,
interaction) pairs, ``CATEGORY_KEYS`` (week, category) pairs and ``TRAIT_KEYS`` traits; money is rounded to a millionth.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from bespoke.clock import DAY_MS, WEEK_MS
from bespoke.events import Event, EventType, InteractionType, ItemId

RECENT_LIMIT = 500
DAY_KEYS = 256
CATEGORY_KEYS = 512
TRAIT_KEYS = 100
MICROS = 1_000_000
MAX_REVENUE_MICROS = 2**62
"""Where sums of money stop growing, so that stores of 64-bit integers can hold them whatever prices are sent."""
TAKEN_BACK = frozenset({InteractionType.REFUND, InteractionType.REMOVE_FROM_CART})
"""Interactions that speak against an item; they count as such, and for no category."""

BucketCounts = Mapping[tuple[int, str], int]
"""Counts by (day or week number, name)."""


class Recent(NamedTuple):
    """One line of one event: what was done with which item. Ordered by time."""

    at_ms: int
    item_id: ItemId
    interaction: str
    quantity: float


class Trait(NamedTuple):
    """A trait's value as JSON, and when it was said. The later one wins; of two at once, the greater JSON."""

    at_ms: int
    value_json: str


@dataclass(frozen=True, slots=True)
class Profile:
    """The state of one person."""

    first_ms: int | None = None
    last_ms: int | None = None
    received_ms: int | None = None
    """When the newest of the events was received."""
    events: int = 0
    orders: int = 0
    revenue_micros: int = 0
    refunded_micros: int = 0
    recent: tuple[Recent, ...] = ()
    """The newest lines, oldest first."""
    day_counts: BucketCounts = field(default_factory=dict)
    """Lines by (UTC day number, interaction)."""
    category_counts: BucketCounts = field(default_factory=dict)
    """Lines by (week number, category)."""
    traits: Mapping[str, Trait] = field(default_factory=dict)


EMPTY = Profile()


def fold(profile: Profile, event: Event) -> Profile:
    """Return ``profile`` with ``event`` in it. Folding is commutative; folding one event twice counts it twice."""
    at_ms, interaction = event.at_ms, event.interaction
    purchase, refund = interaction is InteractionType.PURCHASE, interaction is InteractionType.REFUND
    liking = interaction is not None and interaction not in TAKEN_BACK
    return Profile(
        first_ms=at_ms if profile.first_ms is None else min(profile.first_ms, at_ms),
        last_ms=at_ms if profile.last_ms is None else max(profile.last_ms, at_ms),
        received_ms=max(profile.received_ms or 0, event.received_ms),
        events=profile.events + 1,
        orders=profile.orders + purchase,
        revenue_micros=_capped(profile.revenue_micros + (_micros(event) if purchase else 0)),
        refunded_micros=_capped(profile.refunded_micros + (_micros(event) if refund else 0)),
        recent=_with_recent(profile.recent, event, interaction) if interaction else profile.recent,
        day_counts=_with_days(profile.day_counts, event, interaction) if interaction else profile.day_counts,
        category_counts=_with_categories(profile.category_counts, event) if liking else profile.category_counts,
        traits=_with_traits(profile.traits, event) if event.type is EventType.IDENTIFY else profile.traits,
    )


def merge(one: Profile, other: Profile) -> Profile:
    """Return the profile of the union of two disjoint sets of events."""
    return Profile(
        first_ms=min((t for t in (one.first_ms, other.first_ms) if t is not None), default=None),
        last_ms=max((t for t in (one.last_ms, other.last_ms) if t is not None), default=None),
        received_ms=max((t for t in (one.received_ms, other.received_ms) if t is not None), default=None),
        events=one.events + other.events,
        orders=one.orders + other.orders,
        revenue_micros=_capped(one.revenue_micros + other.revenue_micros),
        refunded_micros=_capped(one.refunded_micros + other.refunded_micros),
        recent=tuple(sorted(one.recent + other.recent)[-RECENT_LIMIT:]),
        day_counts=_newest(_added(one.day_counts, other.day_counts), limit=DAY_KEYS),
        category_counts=_newest(_added(one.category_counts, other.category_counts), limit=CATEGORY_KEYS),
        traits=_newest_traits([*one.traits.items(), *other.traits.items()]),
    )


def _micros(event: Event) -> int:
    return sum(round(line.price * line.quantity * MICROS) for line in event.lines if line.price is not None)


def _capped(micros: int) -> int:
    return min(micros, MAX_REVENUE_MICROS)


def _with_recent(recent: tuple[Recent, ...], event: Event, interaction: InteractionType) -> tuple[Recent, ...]:
    kind, at_ms = interaction.value, event.at_ms
    added = sorted(Recent(at_ms, line.item_id, kind, line.quantity) for line in event.lines)
    if not recent or recent[-1] <= added[0]:
        return (*recent, *added)[-RECENT_LIMIT:]
    merged = list(recent)
    for entry in added:
        insort(merged, entry)
    return tuple(merged[-RECENT_LIMIT:])


def _with_days(counts: BucketCounts, event: Event, interaction: InteractionType) -> BucketCounts:
    return _newest(_added(counts, {(event.at_ms // DAY_MS, interaction.value): len(event.lines)}), limit=DAY_KEYS)


def _with_categories(counts: BucketCounts, event: Event) -> BucketCounts:
    week = event.at_ms // WEEK_MS
    named = Counter((week, line.category) for line in event.lines if line.category)
    return _newest(_added(counts, named), limit=CATEGORY_KEYS) if named else counts


def _with_traits(traits: Mapping[str, Trait], event: Event) -> Mapping[str, Trait]:
    said = [
        (name, Trait(event.at_ms, orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()))
        for name, value in event.traits.items()
    ]
    return _newest_traits([*traits.items(), *said]) if said else traits


def _added(counts: BucketCounts, more: BucketCounts) -> dict[tuple[int, str], int]:
    total = dict(counts)
    for key, count in more.items():
        total[key] = total.get(key, 0) + count
    return total


def _newest(counts: dict[tuple[int, str], int], *, limit: int) -> BucketCounts:
    if len(counts) <= limit:
        return counts
    return {key: counts[key] for key in sorted(counts)[-limit:]}


def _newest_traits(said: Iterable[tuple[str, Trait]]) -> Mapping[str, Trait]:
    latest: dict[str, Trait] = {}
    for name, trait in said:
        if name not in latest or latest[name] < trait:
            latest[name] = trait
    if len(latest) <= TRAIT_KEYS:
        return latest
    kept = sorted(latest, key=lambda name: (latest[name].at_ms, name))[-TRAIT_KEYS:]
    return {name: latest[name] for name in kept}


def to_row(profile: Profile) -> dict[str, Any]:
    """Return the state as flat columns of plain values: what stores, the lake and the feature store keep.

    See :data:`STATE_COLUMNS` for the columns. Equal profiles give equal rows.
    """
    days, categories = sorted(profile.day_counts.items()), sorted(profile.category_counts.items())
    at_ms, items, interactions, quantities = zip(*profile.recent, strict=True) if profile.recent else ((), (), (), ())
    return {
        "first_ms": profile.first_ms,
        "last_ms": profile.last_ms,
        "received_ms": profile.received_ms,
        "events": profile.events,
        "orders": profile.orders,
        "revenue_micros": profile.revenue_micros,
        "refunded_micros": profile.refunded_micros,
        "recent_ms": list(at_ms),
        "recent_items": list(items),
        "recent_interactions": list(interactions),
        "recent_quantities": list(quantities),
        "day_numbers": [key[0] for key, _ in days],
        "day_interactions": [key[1] for key, _ in days],
        "day_counts": [count for _, count in days],
        "category_weeks": [key[0] for key, _ in categories],
        "category_names": [key[1] for key, _ in categories],
        "category_counts": [count for _, count in categories],
        "traits_json": orjson.dumps(
            {name: list(trait) for name, trait in profile.traits.items()}, option=orjson.OPT_SORT_KEYS
        ).decode(),
    }


STATE_COLUMNS: Mapping[str, str] = {
    "first_ms": "int",
    "last_ms": "int",
    "received_ms": "int",
    "events": "int",
    "orders": "int",
    "revenue_micros": "int",
    "refunded_micros": "int",
    "recent_ms": "ints",
    "recent_items": "strings",
    "recent_interactions": "strings",
    "recent_quantities": "floats",
    "day_numbers": "ints",
    "day_interactions": "strings",
    "day_counts": "ints",
    "category_weeks": "ints",
    "category_names": "strings",
    "category_counts": "ints",
    "traits_json": "string",
}
"""The columns of a state row and their types: int, string, and lists of ints, floats and strings."""


def from_row(row: Mapping[str, Any]) -> Profile:
    """Return the profile of a row that :func:`to_row` made; absent or null columns read as empty."""

    def values(name: str) -> list[Any]:
        value = row.get(name)
        return [] if value is None else list(value)

    return Profile(
        first_ms=row.get("first_ms"),
        last_ms=row.get("last_ms"),
        received_ms=row.get("received_ms"),
        events=row.get("events") or 0,
        orders=row.get("orders") or 0,
        revenue_micros=row.get("revenue_micros") or 0,
        refunded_micros=row.get("refunded_micros") or 0,
        recent=tuple(
            map(
                Recent,
                values("recent_ms"),
                values("recent_items"),
                values("recent_interactions"),
                values("recent_quantities"),
            )
        ),
        day_counts=dict(
            zip(
                zip(values("day_numbers"), values("day_interactions"), strict=True),
                values("day_counts"),
                strict=True,
            )
        ),
        category_counts=dict(
            zip(
                zip(values("category_weeks"), values("category_names"), strict=True),
                values("category_counts"),
                strict=True,
            )
        ),
        traits={
            name: Trait(at_ms, value_json)
            for name, (at_ms, value_json) in orjson.loads(row.get("traits_json") or "{}").items()
        },
    )
