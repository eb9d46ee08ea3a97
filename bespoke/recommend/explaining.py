"""Reasons: why an item is in the list, in words for people."""

from collections.abc import Collection, Mapping, Sequence

from bespoke.clock import DAY_MS
from bespoke.events import InteractionType, ItemId
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


def own_lines(recent: Sequence[Recent], wanted: Collection[ItemId]) -> dict[ItemId, list[Recent]]:
    """Return the person's lines about each of the ``wanted`` items, of the kinds that are reasons."""
    own: dict[ItemId, list[Recent]] = {}
    for line in recent:
        if line.item_id in wanted and line.interaction in DONE:
            own.setdefault(line.item_id, []).append(line)
    return own


def reasons(source: str, own: Sequence[Recent], *, at_ms: int) -> tuple[str, ...]:
    """Return what the person did with the item, the strongest kind of it, or else the source's reason."""
    if not own:
        return (REASON_OF_SOURCE.get(source, ANY_SOURCE),)
    kind = max((line.interaction for line in own), key=_STRENGTH.__getitem__)
    times = [line.at_ms for line in own if line.interaction == kind]
    days = max(at_ms - max(times), 0) // DAY_MS
    return (f"{DONE[kind]} {_counted(len(times), 'time')}, last {_counted(days, 'day')} ago",)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
