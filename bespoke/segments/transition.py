"""Transitions as the log holds them, and what subscribers and listeners are told of one."""

from typing import Any

from bespoke.clock import from_ms
from bespoke.errors import InvalidEvent
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event

ID_PREFIX = "segment-"
"""How the messageIds of transitions begin; nobody but the system may send such ids."""


def transition_of(message_id: str, payload: bytes) -> Event | None:
    """Return the transition that a message of the log is, or None where it is something else.

    The messageId tells nearly all others apart, so that hardly any payload is read.
    """
    if not message_id.startswith(ID_PREFIX):
        return None
    try:
        event = Event.from_payload(payload)
    except InvalidEvent:
        return None
    return event if event.name in (SEGMENT_ENTERED, SEGMENT_LEFT) and "segment" in event.properties else None


def told_of(event: Event) -> dict[str, Any]:
    """Return what is told of a transition: JSON values under the names that events have."""
    who = {"userId": event.user_id} if event.user_id is not None else {"anonymousId": event.anonymous_id}
    at = from_ms(event.at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"event": event.name, "messageId": event.message_id, **who, **event.properties, "timestamp": at}
