"""The state of one item: how it grows by events, how two become one, and its flat columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.events import Event, InteractionType, ItemId
from bespoke.profiles import BucketCounts

HOURS_KEPT = 49
"""How far the hours reach back from the item's newest event."""
DAYS_KEPT = 40
"""The same of UTC days."""

_TIMES = ("first_ms", "last_ms", "received_ms", "sold_ms")
ITEM_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(_TIMES, "int"),
    "bucket_kinds": "strings",
    "bucket_numbers": "ints",
    "bucket_names": "strings",
    "bucket_counts": "ints",
}
"""The columns of an item's row and their types. Totals are buckets of kind ``total``, all of number 0."""


@dataclass(frozen=True, slots=True)
class ItemState:
    """What everybody together did with one item. Counts are lines of events."""

    first_ms: int | None = None
    last_ms: int | None = None
    received_ms: int | None = None
    """When the newest of the events was received."""
    sold_ms: int | None = None
    """When it was bought last."""
    totals: Mapping[str, int] = field(default_factory=dict)
    """By interaction."""
    day_counts: BucketCounts = field(default_factory=dict)
    """By (UTC day, interaction)."""
    hour_counts: BucketCounts = field(default_factory=dict)
    """By (hour, interaction)."""


UNKNOWN = ItemState()


def count(state: ItemState, event: Event, *, item_id: ItemId) -> ItemState:
    """Return ``state`` with the lines of ``event`` that are about this item; counting twice counts it twice."""
    lines, interaction = sum(line.item_id == item_id for line in event.lines), event.interaction
    if interaction is None or not lines:
        return state
    at_ms, name = event.at_ms, interaction.value
    return merge(
        state,
        ItemState(
            first_ms=at_ms,
            last_ms=at_ms,
            received_ms=event.received_ms,
            sold_ms=at_ms if interaction is InteractionType.PURCHASE else None,
            totals={name: lines},
            day_counts={(at_ms // DAY_MS, name): lines},
            hour_counts={(at_ms // HOUR_MS, name): lines},
        ),
    )


def merge(one: ItemState, other: ItemState) -> ItemState:
    """Return the state of the union of two disjoint sets of events."""
    last_ms = _latest(one.last_ms, other.last_ms)
    return ItemState(
        first_ms=min((t for t in (one.first_ms, other.first_ms) if t is not None), default=None),
        last_ms=last_ms,
        received_ms=_latest(one.received_ms, other.received_ms),
        sold_ms=_latest(one.sold_ms, other.sold_ms),
        totals={name: one.totals.get(name, 0) + other.totals.get(name, 0) for name in one.totals.keys() | other.totals},
        day_counts=_added(one.day_counts, other.day_counts, since=(last_ms or 0) // DAY_MS - DAYS_KEPT),
        hour_counts=_added(one.hour_counts, other.hour_counts, since=(last_ms or 0) // HOUR_MS - HOURS_KEPT),
    )


def _latest(one: int | None, other: int | None) -> int | None:
    return max((t for t in (one, other) if t is not None), default=None)


def _added(one: BucketCounts, other: BucketCounts, *, since: int) -> BucketCounts:
    total = {key: n for key, n in one.items() if key[0] >= since}
    for key, n in other.items():
        if key[0] >= since:
            total[key] = total.get(key, 0) + n
    return total


def to_row(state: ItemState) -> dict[str, Any]:
    """Return the state as flat columns, those of :data:`ITEM_COLUMNS`. Equal states give equal rows."""
    buckets = [
        *(("total", 0, name, n) for name, n in sorted(state.totals.items())),
        *(("day", number, name, n) for (number, name), n in sorted(state.day_counts.items())),
        *(("hour", number, name, n) for (number, name), n in sorted(state.hour_counts.items())),
    ]
    kinds, numbers, names, counts = zip(*buckets, strict=True) if buckets else ((),) * 4
    return {
        **{name: getattr(state, name) for name in _TIMES},
        "bucket_kinds": list(kinds),
        "bucket_numbers": list(numbers),
        "bucket_names": list(names),
        "bucket_counts": list(counts),
    }


def from_row(row: Mapping[str, Any]) -> ItemState:
    """Return the state of a row that :func:`to_row` made; absent or null columns read as empty."""
    counts: dict[str, dict[tuple[int, str], int]] = {"total": {}, "day": {}, "hour": {}}
    columns = (row.get(name) for name in ("bucket_kinds", "bucket_numbers", "bucket_names", "bucket_counts"))
    for kind, number, name, n in zip(*(() if column is None else column for column in columns), strict=True):
        counts[kind][number, name] = n
    return ItemState(
        **{name: row.get(name) for name in _TIMES},
        totals={name: n for (_, name), n in counts["total"].items()},
        day_counts=counts["day"],
        hour_counts=counts["hour"],
    )
