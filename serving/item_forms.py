"""What clients say of items, checked field by field: the good part is kept, the rest is told with the reason."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bespoke.errors import InvalidEvent
from bespoke.events import ItemId
from bespoke.parsing import MAX_ID_CHARS
from storage.item_changes import ItemChange

MAX_ITEMS = 1_000
MAX_NAME_CHARS = 500
MAX_LEVELS = 10
MAX_LEVEL_CHARS = 200
MAX_TEXT_CHARS = 5_000
MAX_PRICE = 1e12
MAX_DAYS = 3_650.0
SEPARATOR = ">"


@dataclass(frozen=True, slots=True)
class RefusedItem:
    """One item that was refused, and why."""

    index: int
    item_id: str | None
    reason: InvalidEvent

    def to_json(self) -> dict[str, Any]:
        """Return the form that clients read."""
        reason = self.reason
        return {
            "index": self.index,
            "itemId": self.item_id,
            "field": reason.field,
            "value": reason.value,
            "allowed": reason.allowed,
        }


def parse_items(items: Sequence[Any], *, whole: bool) -> tuple[list[ItemChange], list[RefusedItem]]:
    """Check items one by one.

    Args:
        items: decoded JSON values.
        whole: whether each is a whole description, so that what it leaves out has no value.
    """
    good, refused = [], []
    for index, item in enumerate(items):
        try:
            good.append(parse_item(item, whole=whole))
        except InvalidEvent as reason:
            named = item.get("itemId") if isinstance(item, Mapping) else None
            refused.append(RefusedItem(index, named[:MAX_ID_CHARS] if isinstance(named, str) else None, reason))
    return good, refused


def parse_item(item: Any, *, whole: bool) -> ItemChange:
    """Check one item.

    >>> parse_item({"itemId": "tea", "category": "DRINKS > TEA"}, whole=False).fields
    {'category': ['DRINKS', 'TEA']}

    Raises:
        InvalidEvent: names the field, the value and what is allowed.
    """
    if not isinstance(item, Mapping):
        raise InvalidEvent("item", item, "a JSON object")
    unknown = sorted(set(item) - {"itemId", *_READERS})
    if unknown:
        raise InvalidEvent(unknown[0], item[unknown[0]], f"only the fields itemId, {', '.join(_READERS)}")
    fields = {}
    for name, (attribute, read) in _READERS.items():
        if name in item:
            value = item[name]
            fields[attribute] = read(name, value) if value is not None or name == "available" else None
    if not whole and not fields:
        raise InvalidEvent("item", item, f"at least one of {', '.join(_READERS)}")
    return ItemChange(_item_id(item.get("itemId")), fields, whole)


def _item_id(value: Any) -> ItemId:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > MAX_ID_CHARS:
        raise InvalidEvent("itemId", value, f"a printable text of 1 to {MAX_ID_CHARS} characters")
    return ItemId(text)


def _text(limit: int) -> Callable[[str, Any], str]:
    def read(field: str, value: Any) -> str:
        # A lone surrogate is JSON, and no store takes it; nor does PostgreSQL take a zero byte.
        if not isinstance(value, str) or len(value) > limit or not _storable(value):
            raise InvalidEvent(field, value, f"text of at most {limit} characters, or null")
        return value

    return read


def _category(field: str, value: Any) -> list[str]:
    """Return the levels, broadest first, of a list or of a text such as ``DRINKS > TEA``."""
    allowed = f"up to {MAX_LEVELS} names, broadest first, as a list or as 'A {SEPARATOR} B', or null"
    levels = [level.strip() for level in value.split(SEPARATOR)] if isinstance(value, str) else value
    if value == "":
        return []
    if not isinstance(levels, list) or len(levels) > MAX_LEVELS:
        raise InvalidEvent(field, value, allowed)
    for place, level in enumerate(levels):
        if not isinstance(level, str) or not level.strip() or len(level) > MAX_LEVEL_CHARS or not _storable(level):
            raise InvalidEvent(f"{field}[{place}]", level, f"a name of 1 to {MAX_LEVEL_CHARS} characters")
    return levels


def _number(limit: float) -> Callable[[str, Any], float]:
    def read(field: str, value: Any) -> float:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if not good or not math.isfinite(value) or not 0 <= value <= limit:
            raise InvalidEvent(field, value, f"a number from 0 to {limit:,.0f}, or null")
        return float(value)

    return read


def _available(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidEvent(field, value, "true or false")
    return value


def _storable(text: str) -> bool:
    return "\0" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text))


_READERS: Mapping[str, tuple[str, Callable[[str, Any], Any]]] = {
    "name": ("name", _text(MAX_NAME_CHARS)),
    "category": ("category", _category),
    "brand": ("brand", _text(MAX_LEVEL_CHARS)),
    "price": ("price", _number(MAX_PRICE)),
    "available": ("available", _available),
    "rebuyAfterDays": ("rebuy_after_days", _number(MAX_DAYS)),
    "text": ("text", _text(MAX_TEXT_CHARS)),
}
"""Each field by the name that clients use: the name that items have it under, and what checks it."""
