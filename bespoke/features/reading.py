"""Reading: one profile at one time, with what several features derive from it, each at most once."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from math import fsum
from typing import NamedTuple

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS, WEEK_MS
from bespoke.features.decay import HALF_LIFE_DAYS, decay
from bespoke.profiles import SLOT_MS, TAKEN_BACK, UNPRICED, BucketCounts, Profile, Recent

SESSION_GAP_MS = 30 * MINUTE_MS
"""A longer pause ends a session. Source: the default of web analytics since Google Analytics."""
CART_DAYS = 30
"""What was put into a cart longer ago is no longer in it."""


class Session(NamedTuple):
    """From the beginning of the first active slot to the end of the last one."""

    start_ms: int
    end_ms: int


class InCart(NamedTuple):
    """One item in the cart."""

    added_ms: int
    """When it was put in last."""
    quantity: float
    price_micros: int


class Reading:
    """One profile as seen at one time."""

    def __init__(self, profile: Profile, at_ms: int) -> None:
        self.profile, self.at_ms = profile, at_ms

    @cached_property
    def liked(self) -> tuple[Recent, ...]:
        """The recent lines that speak for an item, oldest first."""
        return tuple(entry for entry in self.profile.recent if entry.interaction not in TAKEN_BACK)

    @cached_property
    def by_interaction(self) -> Mapping[str, list[Recent]]:
        """The recent lines of each interaction, oldest first."""
        found: dict[str, list[Recent]] = {}
        for entry in self.profile.recent:
            found.setdefault(entry.interaction, []).append(entry)
        return found

    def counts(self, window_ms: int) -> tuple[BucketCounts, int]:
        """Return the counts that a window is read from, and how long their buckets are (ms)."""
        if window_ms <= HOUR_MS:
            return self.profile.minute_counts, MINUTE_MS
        if window_ms <= 7 * DAY_MS:
            return self.profile.hour_counts, HOUR_MS
        return self.profile.day_counts, DAY_MS

    def count(self, kind: str | None, window_ms: int) -> int:
        """Return how many lines or events of ``kind``, or of all kinds, lie in the window."""
        counts, width_ms = self.counts(window_ms)
        first = (self.at_ms - window_ms) // width_ms
        return sum(n for (bucket, name), n in counts.items() if bucket >= first and (kind is None or name == kind))

    def oldest_leaves_ms(self, kind: str | None, window_ms: int) -> int | None:
        """Return when the window loses its oldest bucket; None where it holds none."""
        counts, width_ms = self.counts(window_ms)
        first = (self.at_ms - window_ms) // width_ms
        inside = [bucket for bucket, name in counts if bucket >= first and (kind is None or name == kind)]
        return (min(inside) + 1) * width_ms + window_ms if inside else None

    def lines_since(self, window_ms: int, *interactions: str) -> Iterator[Recent]:
        """Yield the recent lines within the window, of some interactions or of those that speak for an item."""
        entries = self.liked if not interactions else self.profile.recent
        first_ms = self.at_ms - window_ms
        return (
            entry
            for entry in entries
            if entry.at_ms > first_ms and (not interactions or entry.interaction in interactions)
        )

    @cached_property
    def category_affinity(self) -> Mapping[str, float]:
        """Each category's share of the person's lines, by counts that halve every ``HALF_LIFE_DAYS``."""
        return _shares(self.profile.category_counts, self.at_ms)

    @cached_property
    def brand_affinity(self) -> Mapping[str, float]:
        """The same of brands."""
        return _shares(self.profile.brand_counts, self.at_ms)

    @cached_property
    def sessions(self) -> list[Session]:
        """The sessions that the active slots make, oldest first."""
        found: list[Session] = []
        for slot in self.profile.slots:
            start_ms, end_ms = slot * SLOT_MS, (slot + 1) * SLOT_MS
            if found and start_ms - found[-1].end_ms <= SESSION_GAP_MS:
                found[-1] = Session(found[-1].start_ms, end_ms)
            else:
                found.append(Session(start_ms, end_ms))
        return found

    @cached_property
    def cart(self) -> Mapping[str, InCart]:
        """What is in the cart: added within ``CART_DAYS``, and neither taken out nor bought since."""
        cart: dict[str, InCart] = {}
        for entry in self.lines_since(CART_DAYS * DAY_MS, "add_to_cart", "remove_from_cart", "purchase"):
            before = cart.get(entry.item_id)
            if entry.interaction == "add_to_cart":
                quantity = entry.quantity + (before.quantity if before else 0.0)
                cart[entry.item_id] = InCart(entry.at_ms, quantity, entry.price_micros)
            elif before is not None:
                left = before.quantity - entry.quantity if entry.interaction == "remove_from_cart" else 0.0
                if left > 0:
                    cart[entry.item_id] = before._replace(quantity=left)
                else:
                    del cart[entry.item_id]
        return cart

    @cached_property
    def prices(self) -> list[int]:
        """The known unit prices of the recent lines that speak for an item, in millionths."""
        return [entry.price_micros for entry in self.liked if entry.price_micros != UNPRICED]


def _shares(counts: BucketCounts, at_ms: int) -> Mapping[str, float]:
    masses: dict[str, list[float]] = {}
    for (week, name), count in counts.items():
        masses.setdefault(name, []).append(count * decay(at_ms - week * WEEK_MS, half_life_days=HALF_LIFE_DAYS))
    # Exact sums: plain ones would differ in the last digit with the order of the keys, which is that of arrival.
    mass = {name: fsum(parts) for name, parts in masses.items()}
    total = fsum(mass.values())
    return {name: value / total for name, value in mass.items()} if total > 0 else {}
