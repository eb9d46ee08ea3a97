"""Near-duplicates: the same deed sent twice within a moment under different messageIds, as double taps and retries do.

A repeated messageId is recognised for certain, elsewhere. This is a guess from what a profile remembers, so it is
limited to deeds that nobody does twice on purpose within seconds, and to its newest lines.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from bespoke.clock import SECOND_MS
from bespoke.events import INTERACTION_OF_NAME, Event, InteractionType, ItemId
from bespoke.profiles import MAX_REVENUE_MICROS, MICROS, UNPRICED, Profile, Recent

WITHIN_S = 2.0
DELIBERATE = frozenset({InteractionType.ADD_TO_CART, InteractionType.REMOVE_FROM_CART})
"""What a person may well do twice at once: two presses on "add" are two pieces."""
DEFAULT_EVENTS = tuple(name for name, kind in INTERACTION_OF_NAME.items() if kind not in DELIBERATE)
FILE_SOURCE = "file:"
"""How the sources of imports begin. Histories often know the day or the minute only, so times say little there."""

_Same = tuple[ItemId, float, int]


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Which events may be near-duplicates, and how near."""

    within_ms: int = round(WITHIN_S * SECOND_MS)
    """Zero: none ever is."""
    events: Collection[str] = DEFAULT_EVENTS

    def found(self, profile: Profile, event: Event) -> bool:
        """Return whether ``event``, which is not folded into ``profile`` yet, repeats what is there."""
        return (
            self.within_ms > 0
            and event.name in self.events
            and near_duplicate(profile, event, within_ms=self.within_ms)
        )


def near_duplicate(profile: Profile, event: Event, *, within_ms: int) -> bool:
    """Return whether the person did the same with the same lines within ``within_ms`` of ``event``, before or after.

    The same means: the interaction, and of every line the item, quantity and price, each as often as the event has it.

    Args:
        profile: the person's state without ``event``.
        event: an event under a messageId that was not applied yet.
        within_ms: how far apart the two may be, both ends included.
    """
    interaction, recent = event.interaction, profile.recent
    if interaction is None or not recent or event.source.startswith(FILE_SOURCE):
        return False
    since_ms, until_ms = event.at_ms - within_ms, event.at_ms + within_ms
    if recent[-1].at_ms < since_ms:
        return False
    start = bisect_left(recent, since_ms, key=_time)
    wanted = Counter((line.item_id, line.quantity, _micros(line.price)) for line in event.lines)
    left = wanted.total()
    for n in range(start, len(recent)):
        entry = recent[n]
        if entry.at_ms > until_ms:
            break
        same = (entry.item_id, entry.quantity, entry.price_micros)
        if entry.interaction == interaction and wanted[same] > 0:
            wanted[same] -= 1
            left -= 1
            if not left:
                return True
    return False


def _time(entry: Recent) -> int:
    return entry.at_ms


def _micros(price: float | None) -> int:
    return UNPRICED if price is None else min(round(price * MICROS), MAX_REVENUE_MICROS)
