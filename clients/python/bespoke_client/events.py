"""Events in the Segment dialect. Each has a messageId from the start, so that sending it twice counts once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4


@dataclass(frozen=True, slots=True)
class Event:
    """One message for the collector; :func:`track` and the others make it."""

    type: str
    body: Mapping[str, Any]
    """Everything else of the message, as JSON spells it."""
    message_id: str = field(default_factory=lambda: str(uuid4()))
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    def to_json(self) -> dict[str, Any]:
        """Return the message."""
        at = self.timestamp.isoformat(timespec="milliseconds")
        return {**self.body, "type": self.type, "messageId": self.message_id, "timestamp": at}


def track(
    user_id: str | None, event: str, properties: Mapping[str, Any] | None = None, *, anonymous_id: str | None = None
) -> Event:
    """Somebody did something, such as ``Product Viewed``."""
    return Event("track", _body(user_id, anonymous_id, event=event, properties=dict(properties or {})))


def identify(user_id: str | None, traits: Mapping[str, Any] | None = None, *, anonymous_id: str | None = None) -> Event:
    """Something is known of somebody; with both ids, that they are one person."""
    return Event("identify", _body(user_id, anonymous_id, traits=dict(traits or {})))


def page(
    user_id: str | None,
    name: str | None = None,
    properties: Mapping[str, Any] | None = None,
    *,
    anonymous_id: str | None = None,
) -> Event:
    """Somebody looked at a page."""
    return Event("page", _body(user_id, anonymous_id, name=name, properties=dict(properties or {})))


def screen(
    user_id: str | None,
    name: str | None = None,
    properties: Mapping[str, Any] | None = None,
    *,
    anonymous_id: str | None = None,
) -> Event:
    """Somebody looked at a screen of an app."""
    return Event("screen", _body(user_id, anonymous_id, name=name, properties=dict(properties or {})))


def group(
    user_id: str | None, group_id: str, traits: Mapping[str, Any] | None = None, *, anonymous_id: str | None = None
) -> Event:
    """Somebody belongs to a group."""
    return Event("group", _body(user_id, anonymous_id, groupId=group_id, traits=dict(traits or {})))


def alias(user_id: str, previous_id: str) -> Event:
    """Two ids are one person."""
    return Event("alias", {"userId": user_id, "previousId": previous_id})


def _body(user_id: str | None, anonymous_id: str | None, **others: Any) -> dict[str, Any]:
    if user_id is None and anonymous_id is None:
        raise ValueError("an event is somebody's: give user_id, anonymous_id or both")
    found = {"userId": user_id, "anonymousId": anonymous_id, **others}
    return {name: value for name, value in found.items() if value is not None}
