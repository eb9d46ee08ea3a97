"""Messages for tests, through the same checks as real ones."""

from datetime import UTC, datetime, timedelta

from bespoke.events import Event
from bespoke.parsing import encode_event, parse_event
from storage.eventlog.base import Message

DAY_0: datetime = datetime(2026, 1, 1, tzinfo=UTC)


def event(user: str, number: int, name: str, *items: str) -> Event:
    """Return the ``number``-th message of a person, an hour after the one before."""
    at = DAY_0 + timedelta(hours=number)
    message = {
        "type": "track",
        "event": name,
        "messageId": f"{user}-{number}",
        "userId": user,
        "timestamp": at.isoformat(),
        "properties": {"products": [{"product_id": item, "price": 1.0, "category": f"c-{item}"} for item in items]},
    }
    return parse_event(message, received_at=at)


def as_message(one: Event) -> Message:
    """Return the event as the log takes it."""
    return Message(key=one.person, message_id=one.message_id, received_ms=one.received_ms, payload=encode_event(one))


def order(user: str, number: int, *items: str) -> Message:
    """Return a purchase."""
    return as_message(event(user, number, "Order Completed", *items))


def views(user: str, number: int, *items: str) -> Message:
    """Return a look at items."""
    return as_message(event(user, number, "Product Viewed", *items))
