"""Reasons: why an item is in the list, in words for people."""

from collections.abc import Iterable, Mapping, Sequence

from bespoke.clock import DAY_MS
from bespoke.events import InteractionType
from bespoke.profiles import Recent

REASON_OF_SOURCE: Mapping[str, str] = {
    "personal": "fits what you like",
    "recent_items": "fits what you looked at or bought lately",
    "similar": "like the item you are looking at",
    "popular": "popular now",
    "popular_in_category": "popular among what you look at",
    "popular_in_segment": "popular with people like you",
    "bundled_popular": "popular",
    "catalog": "in the catalog",
    "covisitation": "others chose it next",
    "content": "resembles what you chose",
    "buy_again": "you chose it before",
}
ANY_SOURCE = "fits what you like"

DONE: Mapping[str, str] = {
    InteractionType.VIEW.value: "viewed",
    InteractionType.CLICK.value: "clicked",
    InteractionType.ADD_TO_CART.value: "put into the cart",
    InteractionType.ADD_TO_WISHLIST.value: "put on the wish list",
    InteractionType.PURCHASE.value: "bought",
}
"""How reasons word an interaction, the weakest first; the others are no reason to recommend."""
_STRENGTH = {kind: number for number, kind in enumerate(DONE)}
_WORDS = tuple(DONE.values())


def by_place(lines: Iterable[Recent], places: Sequence[int]) -> dict[int, list[Recent]]:
    """Return the person's lines about the item at each place, of the kinds that are reasons.

    Args:
        lines: about items of the list.
        places: where in the list each line's item is.
    """
    own: dict[int, list[Recent]] = {}
    for line, place in zip(lines, places, strict=True):
        if line.interaction in DONE:
            own.setdefault(place, []).append(line)
    return own


def reasons(source: str, own: Sequence[Recent], *, at_ms: int) -> tuple[str, ...]:
    """Return what the person did with the item, the strongest kind of it, or else the source's reason."""
    if not own:
        return (REASON_OF_SOURCE.get(source, ANY_SOURCE),)
    strongest, times, last_ms = -1, 0, 0
    for line in own:
        strength = _STRENGTH[line.interaction]
        if strength > strongest:
            strongest, times, last_ms = strength, 1, line.at_ms
        elif strength == strongest:
            times, last_ms = times + 1, max(last_ms, line.at_ms)
    days = max(at_ms - last_ms, 0) // DAY_MS
    return (f"{_WORDS[strongest]} {_counted(times, 'time')}, last {_counted(days, 'day')} ago",)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
