"""Folding: how an event changes a profile, and how two profiles become one."""

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeGuard
from zoneinfo import ZoneInfo

import orjson

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, WEEK_MS
from bespoke.events import SYSTEM_EVENTS, Event, EventType, InteractionType
from bespoke.profiles import profile as bounds
from bespoke.profiles.profile import (
    MAX_REVENUE_MICROS,
    MICROS,
    TAKEN_BACK,
    UNPRICED,
    BucketCounts,
    Device,
    DeviceUse,
    Location,
    Profile,
    Recent,
    Trait,
)

_DEVICES = frozenset(Device)


def changes_profile(event: Event) -> bool:
    """Return whether the event says something of the person, rather than of what the system did."""
    return event.name not in SYSTEM_EVENTS


def fold(profile: Profile, event: Event) -> Profile:
    """Return ``profile`` with ``event`` in it. Folding is commutative; folding one event twice counts it twice."""
    at_ms, interaction, kind = event.at_ms, event.interaction, event.kind
    purchase, refund = interaction is InteractionType.PURCHASE, interaction is InteractionType.REFUND
    liking = interaction is not None and interaction not in TAKEN_BACK
    last_ms = at_ms if profile.last_ms is None else max(profile.last_ms, at_ms)
    day_counts, name_day_counts = profile.day_counts, profile.name_day_counts
    count = len(event.lines) if interaction else 1
    if interaction:
        day_counts = _newest(_counted(day_counts, at_ms // DAY_MS, kind, count), bounds.DAY_KEYS)
    else:
        name_day_counts = _newest(_counted(name_day_counts, at_ms // DAY_MS, kind, count), bounds.NAME_DAY_KEYS)
    return Profile(
        first_ms=at_ms if profile.first_ms is None else min(profile.first_ms, at_ms),
        last_ms=last_ms,
        received_ms=max(profile.received_ms or 0, event.received_ms),
        events=profile.events + 1,
        orders=profile.orders + purchase,
        revenue_micros=_capped(profile.revenue_micros + (_micros(event) if purchase else 0)),
        refunded_micros=_capped(profile.refunded_micros + (_micros(event) if refund else 0)),
        recent=_with_recent(profile.recent, event, interaction) if interaction else profile.recent,
        minute_counts=_by_minute(_counted(profile.minute_counts, at_ms // MINUTE_MS, kind, count), last_ms),
        hour_counts=_by_hour(_counted(profile.hour_counts, at_ms // HOUR_MS, kind, count), last_ms),
        day_counts=day_counts,
        name_day_counts=name_day_counts,
        category_counts=_with_labels(profile.category_counts, event, "category") if liking else profile.category_counts,
        brand_counts=_with_labels(profile.brand_counts, event, "brand") if liking else profile.brand_counts,
        slots=_with_slot(profile.slots, at_ms // bounds.SLOT_MS),
        hours=_with_hour(profile.hours, event),
        devices=_with_device(profile.devices, event) if event.context else profile.devices,
        location=_with_location(profile.location, event) if event.context else profile.location,
        traits=_with_traits(profile.traits, event) if event.type is EventType.IDENTIFY else profile.traits,
    )


def merge(one: Profile, other: Profile) -> Profile:
    """Return the profile of the union of two disjoint sets of events."""
    last_ms = max((t for t in (one.last_ms, other.last_ms) if t is not None), default=None)
    return Profile(
        first_ms=min((t for t in (one.first_ms, other.first_ms) if t is not None), default=None),
        last_ms=last_ms,
        received_ms=max((t for t in (one.received_ms, other.received_ms) if t is not None), default=None),
        events=one.events + other.events,
        orders=one.orders + other.orders,
        revenue_micros=_capped(one.revenue_micros + other.revenue_micros),
        refunded_micros=_capped(one.refunded_micros + other.refunded_micros),
        recent=newest_lines(sorted(one.recent + other.recent)),
        minute_counts=_by_minute(_added(one.minute_counts, other.minute_counts), last_ms or 0),
        hour_counts=_by_hour(_added(one.hour_counts, other.hour_counts), last_ms or 0),
        day_counts=_newest(_added(one.day_counts, other.day_counts), bounds.DAY_KEYS),
        name_day_counts=_newest(_added(one.name_day_counts, other.name_day_counts), bounds.NAME_DAY_KEYS),
        category_counts=_newest(_added(one.category_counts, other.category_counts), bounds.CATEGORY_KEYS),
        brand_counts=_newest(_added(one.brand_counts, other.brand_counts), bounds.CATEGORY_KEYS),
        slots=_newest_slots(sorted({*one.slots, *other.slots})),
        hours=_added_hours(one.hours, other.hours),
        devices=_added_devices(one.devices, other.devices),
        location=max((place for place in (one.location, other.location) if place is not None), default=None),
        traits=_newest_traits([*one.traits.items(), *other.traits.items()]),
    )


def _micros(event: Event) -> int:
    return sum(round(line.price * line.quantity * MICROS) for line in event.lines if line.price is not None)


def _capped(micros: int) -> int:
    return min(micros, MAX_REVENUE_MICROS)


def _with_recent(recent: tuple[Recent, ...], event: Event, interaction: InteractionType) -> tuple[Recent, ...]:
    kind, at_ms = interaction.value, event.at_ms
    added = sorted(
        Recent(
            at_ms,
            line.item_id,
            kind,
            line.quantity,
            UNPRICED if line.price is None else min(round(line.price * MICROS), MAX_REVENUE_MICROS),
            line.category or "",
            line.brand or "",
        )
        for line in event.lines
    )
    if not recent or recent[-1] <= added[0]:
        return _newest_of_kind((*recent, *added), kind)
    merged = list(recent)
    for entry in added:
        insort(merged, entry)
    return _newest_of_kind(tuple(merged), kind)


def _newest_of_kind(recent: tuple[Recent, ...], kind: str) -> tuple[Recent, ...]:
    """Return ``recent`` without the oldest lines of ``kind`` that are too many."""
    limit = bounds.RECENT_LIMITS.get(kind, bounds.OTHER_LIMIT)
    if len(recent) <= limit:
        return recent
    surplus = sum(entry.interaction == kind for entry in recent) - limit
    if surplus <= 0:
        return recent
    places = (place for place, entry in enumerate(recent) if entry.interaction == kind)
    dropped = {place for _, place in zip(range(surplus), places, strict=False)}
    return tuple(entry for place, entry in enumerate(recent) if place not in dropped)


def newest_lines(recent: Iterable[Recent]) -> tuple[Recent, ...]:
    """Return those of ``recent``, which is in the order of time, that a profile keeps."""
    kept = tuple(recent)
    for kind in InteractionType:
        kept = _newest_of_kind(kept, kind.value)
    return kept


def _counted(counts: BucketCounts, bucket: int, name: str, count: int) -> dict[tuple[int, str], int]:
    total = dict(counts)
    total[bucket, name] = total.get((bucket, name), 0) + count
    return total


def _by_minute(counts: dict[tuple[int, str], int], last_ms: int) -> BucketCounts:
    """Return the minutes that are not too old against the newest event, at ``last_ms``."""
    return _newest(_since(counts, last_ms // MINUTE_MS - bounds.MINUTES_KEPT), bounds.MINUTE_KEYS)


def _by_hour(counts: dict[tuple[int, str], int], last_ms: int) -> BucketCounts:
    """Return the hours that are not too old against the newest event, at ``last_ms``."""
    return _newest(_since(counts, last_ms // HOUR_MS - bounds.HOURS_KEPT), bounds.HOUR_KEYS)


def _since(counts: dict[tuple[int, str], int], first: int) -> dict[tuple[int, str], int]:
    if all(bucket >= first for bucket, _ in counts):
        return counts
    return {key: count for key, count in counts.items() if key[0] >= first}


def _with_labels(counts: BucketCounts, event: Event, label: str) -> BucketCounts:
    week = event.at_ms // WEEK_MS
    named = Counter((week, name) for line in event.lines if (name := getattr(line, label)))
    return _newest(_added(counts, named), bounds.CATEGORY_KEYS) if named else counts


def _with_slot(slots: tuple[int, ...], slot: int) -> tuple[int, ...]:
    if slots and slots[-1] == slot:
        return slots
    if not slots or slot > slots[-1]:
        return _newest_slots((*slots, slot))
    return slots if slot in slots else _newest_slots(sorted((*slots, slot)))


def _newest_slots(slots: Iterable[int]) -> tuple[int, ...]:
    kept = tuple(slots)[-bounds.SLOT_KEYS :]
    first = kept[-1] - bounds.SLOTS_KEPT if kept else 0
    return kept if not kept or kept[0] >= first else tuple(slot for slot in kept if slot >= first)


def _with_hour(hours: tuple[int, ...], event: Event) -> tuple[int, ...]:
    zone = event.context.get("timezone") if event.context else None
    hour = event.at_ms // HOUR_MS % 24 if zone is None else _local_hour(event.at_ms, zone)
    counts = list(hours or (0,) * 24)
    counts[hour] += 1
    return tuple(counts)


def _added_hours(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(sum, zip(one, other, strict=True))) if one and other else one or other


def _local_hour(at_ms: int, zone: Any) -> int:
    known = _zone(zone) if isinstance(zone, str) else None
    return at_ms // HOUR_MS % 24 if known is None else datetime.fromtimestamp(at_ms / SECOND_MS, known).hour


@lru_cache(maxsize=1_024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _with_device(devices: Mapping[str, DeviceUse], event: Event) -> Mapping[str, DeviceUse]:
    device = event.context.get("device")
    said = device.get("type") if isinstance(device, dict) else None
    if not isinstance(said, str):
        return devices
    name = said.lower() if said.lower() in _DEVICES else Device.OTHER.value
    return _added_devices(devices, {name: DeviceUse(1, event.at_ms)})


def _added_devices(one: Mapping[str, DeviceUse], other: Mapping[str, DeviceUse]) -> Mapping[str, DeviceUse]:
    total = dict(one)
    for name, use in other.items():
        before = total.get(name)
        total[name] = DeviceUse(before.events + use.events, max(before.last_ms, use.last_ms)) if before else use
    return total


def _with_location(location: Location | None, event: Event) -> Location | None:
    place = event.context.get("location")
    if not isinstance(place, dict):
        return location
    latitude, longitude = place.get("latitude"), place.get("longitude")
    if not _within(latitude, 90) or not _within(longitude, 180):
        return location
    # Zero is added so that -0.0 and 0.0, which differ in a row, are the same place.
    seen = Location(event.at_ms, round(float(latitude), 2) + 0.0, round(float(longitude), 2) + 0.0)
    return seen if location is None else max(location, seen)


def _within(degrees: Any, limit: float) -> TypeGuard[float]:
    return isinstance(degrees, int | float) and not isinstance(degrees, bool) and -limit <= degrees <= limit


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


def _newest(counts: dict[tuple[int, str], int], limit: int) -> BucketCounts:
    if len(counts) <= limit:
        return counts
    return {key: counts[key] for key in sorted(counts)[-limit:]}


def _newest_traits(said: Iterable[tuple[str, Trait]]) -> Mapping[str, Trait]:
    latest: dict[str, Trait] = {}
    for name, trait in said:
        if name not in latest or latest[name] < trait:
            latest[name] = trait
    if len(latest) <= bounds.TRAIT_KEYS:
        return latest
    kept = sorted(latest, key=lambda name: (latest[name].at_ms, name))[-bounds.TRAIT_KEYS :]
    return {name: latest[name] for name in kept}
