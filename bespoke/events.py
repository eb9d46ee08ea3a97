"""Events: what was accepted, in regular form. How they are checked is in ``parsing``.

Source: https://segment.com/docs/connections/spec/ (messages, e-commerce names).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

import orjson

from bespoke.errors import InvalidEvent

UserId = NewType("UserId", str)
"""The raw id of a person as it was sent: a user id, or ``anonymous:`` and an anonymous id."""
ItemId = NewType("ItemId", str)
MessageId = NewType("MessageId", str)

ANONYMOUS = "anonymous:"


class EventType(StrEnum):
    """What kind of message it is."""

    TRACK = "track"
    IDENTIFY = "identify"
    PAGE = "page"
    SCREEN = "screen"
    GROUP = "group"
    ALIAS = "alias"


class InteractionType(StrEnum):
    """What a person did with an item."""

    VIEW = "view"
    CLICK = "click"
    ADD_TO_CART = "add_to_cart"
    REMOVE_FROM_CART = "remove_from_cart"
    ADD_TO_WISHLIST = "add_to_wishlist"
    PURCHASE = "purchase"
    REFUND = "refund"


_INTERACTIONS = frozenset(InteractionType)
INTERACTION_OF_NAME: Mapping[str, InteractionType] = {
    "Product Viewed": InteractionType.VIEW,
    "Product Clicked": InteractionType.CLICK,
    "Product Added": InteractionType.ADD_TO_CART,
    "Product Removed": InteractionType.REMOVE_FROM_CART,
    "Product Added to Wishlist": InteractionType.ADD_TO_WISHLIST,
    "Order Completed": InteractionType.PURCHASE,
    "Order Refunded": InteractionType.REFUND,
}

RECOMMENDATION_SERVED = "Recommendation Served"
RECOMMENDATION_SHADOWED = "Recommendation Shadowed"
"""A list that was computed beside the answer and shown to nobody."""
RECOMMENDATION_VIEWED = "Recommendation Viewed"
EVENT_FAILED = "Event Failed"
SEGMENT_ENTERED = "Segment Entered"
SEGMENT_LEFT = "Segment Left"
SYSTEM_EVENTS = frozenset({RECOMMENDATION_SERVED, RECOMMENDATION_SHADOWED, EVENT_FAILED, SEGMENT_ENTERED, SEGMENT_LEFT})
"""What the system says of itself; nobody may send these."""
SYSTEM_IDS = ("served-", "shadowed-", "failed-", "segment-")
"""How the messageIds of system events begin."""


@dataclass(frozen=True, slots=True)
class Line:
    """One item of an event."""

    item_id: ItemId
    quantity: float = 1.0
    price: float | None = None
    """Unit price, in the currency of the event."""
    category: str | None = None
    brand: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One accepted message."""

    message_id: MessageId
    type: EventType
    name: str | None
    user_id: str | None
    anonymous_id: str | None
    at_ms: int
    """When it happened, corrected for the sender's clock."""
    received_ms: int
    """When the collector took it."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    source: str = ""
    """Who sent it: the name of an API key, or ``file:`` and the name of an import."""

    @property
    def person(self) -> UserId:
        """The raw id that keys the profile and the partition."""
        return person_id(self.user_id, self.anonymous_id)

    @property
    def interaction(self) -> InteractionType | None:
        """What the person did with ``lines``, or None where the event is about no item."""
        return INTERACTION_OF_NAME.get(self.name) if self.name is not None and self.lines else None

    @property
    def kind(self) -> str:
        """What it counts as: the interaction, else a track message's name, else the type.

        A name that is an interaction's is told apart from the interaction.
        """
        if self.interaction is not None:
            return self.interaction.value
        if self.type is not EventType.TRACK or self.name is None:
            return self.type.value
        return f"event:{self.name}" if self.name in _INTERACTIONS else self.name

    def to_payload(self) -> bytes:
        """Return the regular JSON form that the event log keeps."""
        return orjson.dumps(
            {
                "messageId": self.message_id,
                "type": self.type.value,
                "event": self.name,
                "userId": self.user_id,
                "anonymousId": self.anonymous_id,
                "atMs": self.at_ms,
                "receivedMs": self.received_ms,
                "properties": self.properties,
                "traits": self.traits,
                "context": self.context,
                "source": self.source,
            }
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "Event":
        """Read what :meth:`to_payload` wrote.

        Raises:
            InvalidEvent: the payload is not such a form.
        """
        try:
            raw = orjson.loads(payload)
            kind, name, properties = EventType(raw["type"]), raw["event"], raw["properties"]
            return cls(
                message_id=raw["messageId"],
                type=kind,
                name=name,
                user_id=raw["userId"],
                anonymous_id=raw["anonymousId"],
                at_ms=raw["atMs"],
                received_ms=raw["receivedMs"],
                properties=properties,
                traits=raw["traits"],
                context=raw["context"],
                lines=lines_of(kind, name, properties),
                source=raw["source"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidEvent("payload", payload[:60], "an event as the log keeps it") from error


def person_id(user_id: str | None, anonymous_id: str | None) -> UserId:
    """Return the id that keys a person: the user id where there is one.

    >>> person_id(None, "a1")
    'anonymous:a1'
    """
    if user_id is not None:
        return UserId(user_id)
    if anonymous_id is None:
        raise InvalidEvent("userId", None, "userId or anonymousId")
    return UserId(ANONYMOUS + anonymous_id)


def lines_of(kind: EventType, name: str | None, properties: Mapping[str, Any]) -> tuple[Line, ...]:
    """Return the items that a message is about; rows that name none are passed over."""
    if kind is not EventType.TRACK or name not in INTERACTION_OF_NAME:
        return ()
    products = properties.get("products")
    rows = products if isinstance(products, list) else [properties]
    return tuple(
        Line(
            ItemId(str(row["product_id"])),
            row.get("quantity", 1.0) if row.get("quantity") is not None else 1.0,
            row.get("price"),
            row.get("category"),
            row.get("brand"),
        )
        for row in rows
        if isinstance(row, dict) and row.get("product_id") is not None
    )
