"""Rows: the state as flat columns of plain values, which stores, the lake and the feature store keep."""

from collections.abc import Mapping
from itertools import islice, repeat
from typing import Any

import orjson

from bespoke.profiles.profile import DeviceUse, Location, Profile, Recent, Trait

_RECENT: Mapping[str, str] = {
    "recent_ms": "ints",
    "recent_items": "strings",
    "recent_interactions": "strings",
    "recent_quantities": "floats",
    "recent_prices": "ints",
    "recent_categories": "strings",
    "recent_brands": "strings",
}
_DEFAULTS = tuple(Recent._field_defaults.get(name) for name in Recent._fields)
_SCALARS = ("first_ms", "last_ms", "received_ms", "events", "orders", "revenue_micros", "refunded_micros")
_BUCKETS = ("minute", "hour", "day", "name_day", "category", "brand")
"""What is counted by bucket. Together they are four columns, one kind after the other: stores pay by the column."""

STATE_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(_SCALARS, "int"),
    **_RECENT,
    "bucket_sizes": "ints",
    "bucket_numbers": "ints",
    "bucket_names": "strings",
    "bucket_counts": "ints",
    "slots": "ints",
    "hours": "ints",
    "device_names": "strings",
    "device_events": "ints",
    "device_ms": "ints",
    "location_ms": "int",
    "latitude": "float",
    "longitude": "float",
    "traits_json": "string",
}
"""The columns of a state row and their types: int, float, string, and lists of ints, floats and strings."""


def to_row(profile: Profile) -> dict[str, Any]:
    """Return the state as flat columns, those of :data:`STATE_COLUMNS`. Equal profiles give equal rows."""
    row: dict[str, Any] = {name: getattr(profile, name) for name in _SCALARS}
    columns = zip(*profile.recent, strict=True) if profile.recent else ((),) * len(_RECENT)
    for name, column in zip(_RECENT, columns, strict=True):
        row[name] = list(column)
    buckets = [sorted(getattr(profile, f"{bucket}_counts").items()) for bucket in _BUCKETS]
    counted = [entry for entries in buckets for entry in entries]
    row["bucket_sizes"] = [len(entries) for entries in buckets]
    row["bucket_numbers"] = [key[0] for key, _ in counted]
    row["bucket_names"] = [key[1] for key, _ in counted]
    row["bucket_counts"] = [count for _, count in counted]
    devices, place = sorted(profile.devices.items()), profile.location
    row["slots"], row["hours"] = list(profile.slots), list(profile.hours)
    row["device_names"] = [name for name, _ in devices]
    row["device_events"] = [use.events for _, use in devices]
    row["device_ms"] = [use.last_ms for _, use in devices]
    row["location_ms"], row["latitude"], row["longitude"] = place or (None, None, None)
    said = {name: list(trait) for name, trait in profile.traits.items()}
    row["traits_json"] = orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()
    return row


def from_row(row: Mapping[str, Any]) -> Profile:
    """Return the profile of a row that :func:`to_row` made; absent or null columns read as empty."""

    def values(name: str) -> list[Any]:
        value = row.get(name)
        return [] if value is None else list(value)

    entries = iter(zip(*map(values, ("bucket_numbers", "bucket_names", "bucket_counts")), strict=True))
    counts = {
        bucket: {(number, name): count for number, name, count in islice(entries, size)}
        for bucket, size in zip(_BUCKETS, values("bucket_sizes") or (0,) * len(_BUCKETS), strict=True)
    }
    place = row.get("location_ms")
    uses = map(DeviceUse, values("device_events"), values("device_ms"))
    said = orjson.loads(row["traits_json"]).items() if row.get("traits_json") else ()
    return Profile(
        first_ms=row.get("first_ms"),
        last_ms=row.get("last_ms"),
        received_ms=row.get("received_ms"),
        events=row.get("events") or 0,
        orders=row.get("orders") or 0,
        revenue_micros=row.get("revenue_micros") or 0,
        refunded_micros=row.get("refunded_micros") or 0,
        recent=_lines(row),
        minute_counts=counts["minute"],
        hour_counts=counts["hour"],
        day_counts=counts["day"],
        name_day_counts=counts["name_day"],
        category_counts=counts["category"],
        brand_counts=counts["brand"],
        slots=tuple(values("slots")),
        hours=tuple(values("hours")),
        devices=dict(zip(values("device_names"), uses, strict=True)),
        location=None if place is None else Location(place, row["latitude"], row["longitude"]),
        traits={name: Trait(at_ms, value_json) for name, (at_ms, value_json) in said},
    )


def _lines(row: Mapping[str, Any]) -> tuple[Recent, ...]:
    """Return the recent lines; who reads with fewer columns gets defaults for those that lack."""
    times = row.get("recent_ms")
    if not times:
        return ()
    columns = (row.get(name) for name in _RECENT)
    filled = [
        repeat(default, len(times)) if column is None else column
        for column, default in zip(columns, _DEFAULTS, strict=True)
    ]
    # Several times as fast as calling the class, which sorts out arguments that are in order here.
    return tuple(map(tuple.__new__, repeat(Recent, len(times)), zip(*filled, strict=True)))
