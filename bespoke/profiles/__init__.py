"""Profiles: what is known of one person, as state that folds events in and yields features at any time.

State is built from structures whose value depends on the set of events alone, never on the order of their arrival:
largest and smallest times, integer counters, last-writer-wins values, and collections that keep only their newest keys,
by number or by age against the newest event. A key that was dropped can never come back, because the newer keys that
displaced it never leave; so dropping early and dropping late give the same result.

What is approximate, and by how much:

- counts in windows are kept by buckets: an event counts until its whole minute (windows up to 1 hour), hour (up to 7
  days) or UTC day (longer) has left the window; category and brand counts by week;
- minutes reach back 2 hours from the newest event, hours 8 days;
- sessions are told apart by active slots of 5 minutes over the 31 days before the newest event: a pause counts as one
  only if it is 5 minutes longer than the limit, for certain;
- each collection holds the newest so many keys, the constants below; money is rounded to a millionth, places to a
  hundredth of a degree (about 1 km).
"""

from bespoke.profiles.folding import changes_profile, fold, merge, newest_lines
from bespoke.profiles.profile import (
    CATEGORY_KEYS,
    DAY_KEYS,
    EMPTY,
    HOUR_KEYS,
    HOURS_KEPT,
    MAX_REVENUE_MICROS,
    MICROS,
    MINUTE_KEYS,
    MINUTES_KEPT,
    OTHER_LIMIT,
    RECENT_LIMITS,
    SLOT_KEYS,
    SLOT_MS,
    SLOTS_KEPT,
    TAKEN_BACK,
    TRAIT_KEYS,
    UNPRICED,
    BucketCounts,
    Device,
    DeviceUse,
    Location,
    Profile,
    Recent,
    Trait,
)
from bespoke.profiles.rows import STATE_COLUMNS, from_row, to_row

__all__ = [
    "CATEGORY_KEYS",
    "DAY_KEYS",
    "EMPTY",
    "HOURS_KEPT",
    "HOUR_KEYS",
    "MAX_REVENUE_MICROS",
    "MICROS",
    "MINUTES_KEPT",
    "MINUTE_KEYS",
    "OTHER_LIMIT",
    "RECENT_LIMITS",
    "SLOTS_KEPT",
    "SLOT_KEYS",
    "SLOT_MS",
    "STATE_COLUMNS",
    "TAKEN_BACK",
    "TRAIT_KEYS",
    "UNPRICED",
    "BucketCounts",
    "Device",
    "DeviceUse",
    "Location",
    "Profile",
    "Recent",
    "Trait",
    "changes_profile",
    "fold",
    "from_row",
    "merge",
    "newest_lines",
    "to_row",
]
