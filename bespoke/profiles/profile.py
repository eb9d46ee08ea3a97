"""The state of one person, and the bounds of what it holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from bespoke.clock import DAY_MS, MINUTE_MS
from bespoke.events import InteractionType, ItemId

RECENT_LIMITS: Mapping[str, int] = {InteractionType.PURCHASE: 500, InteractionType.VIEW: 200}
"""How many of the newest lines of an interaction are kept."""
OTHER_LIMIT = 100
"""The same for every other interaction."""
MINUTES_KEPT = 120
MINUTE_KEYS = 512
HOURS_KEPT = 8 * 24
HOUR_KEYS = 1_024
DAY_KEYS = 512
NAME_DAY_KEYS = 256
CATEGORY_KEYS = 512
SLOT_MS = 5 * MINUTE_MS
SLOTS_KEPT = 31 * DAY_MS // SLOT_MS
SLOT_KEYS = 512
TRAIT_KEYS = 100
MICROS = 1_000_000
MAX_REVENUE_MICROS = 2**62
"""Where sums of money stop growing, so that stores of 64-bit integers can hold them whatever prices are sent."""
UNPRICED = -1
TAKEN_BACK = frozenset({InteractionType.REFUND, InteractionType.REMOVE_FROM_CART})
"""Interactions that speak against an item; they count as such, and for no category or brand."""

BucketCounts = Mapping[tuple[int, str], int]
"""Counts by (number of the minute, hour, day or week since 1970, name)."""


class Device(StrEnum):
    """What somebody uses."""

    MOBILE = "mobile"
    TABLET = "tablet"
    DESKTOP = "desktop"
    TV = "tv"
    BOT = "bot"
    OTHER = "other"


class Recent(NamedTuple):
    """One line of one event: what was done with which item. Ordered by time."""

    at_ms: int
    item_id: ItemId
    interaction: str
    quantity: float
    price_micros: int = UNPRICED
    """Unit price in millionths, or ``UNPRICED``."""
    category: str = ""
    brand: str = ""


class Trait(NamedTuple):
    """A trait's value as JSON, and when it was said. The later one wins; of two at once, the greater JSON."""

    at_ms: int
    value_json: str


class Location(NamedTuple):
    """Where somebody was last, in degrees, to about 1 km."""

    at_ms: int
    latitude: float
    longitude: float


class DeviceUse(NamedTuple):
    """How often a kind of device was used, and when last."""

    events: int
    last_ms: int


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
    """The newest lines of each interaction, oldest first."""
    minute_counts: BucketCounts = field(default_factory=dict)
    """By (minute, kind): lines of events about items, events of other kinds (:attr:`bespoke.events.Event.kind`)."""
    hour_counts: BucketCounts = field(default_factory=dict)
    """The same by hour."""
    day_counts: BucketCounts = field(default_factory=dict)
    """Lines by (UTC day, interaction)."""
    name_day_counts: BucketCounts = field(default_factory=dict)
    """Events about no item by (UTC day, kind)."""
    category_counts: BucketCounts = field(default_factory=dict)
    """Lines by (week, category)."""
    brand_counts: BucketCounts = field(default_factory=dict)
    """Lines by (week, brand)."""
    slots: tuple[int, ...] = ()
    """The slots of ``SLOT_MS`` in which something happened, oldest first."""
    hours: tuple[int, ...] = ()
    """Events by hour of the day, where the person is if the event names a time zone, else UTC; empty or 24 numbers."""
    devices: Mapping[str, DeviceUse] = field(default_factory=dict)
    location: Location | None = None
    traits: Mapping[str, Trait] = field(default_factory=dict)


EMPTY = Profile()
