"""Parsing: messages of the Segment dialect, checked and made regular.

Source: https://segment.com/docs/connections/spec/common/ (fields) and .../common/#timestamps (clock skew).
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bespoke.clock import DAY_MS, MINUTE_MS, to_ms
from bespoke.errors import InvalidEvent
from bespoke.events import (
    ANONYMOUS,
    INTERACTION_OF_NAME,
    SYSTEM_EVENTS,
    SYSTEM_IDS,
    Event,
    EventType,
    MessageId,
    lines_of,
)

MAX_ID_CHARS = 256
MAX_NAME_CHARS = 200
MAX_LINES = 1_000
MAX_MESSAGE_BYTES = 32 * 1024
MAX_FUTURE_MS = 10 * MINUTE_MS
MAX_AGE_MS = 30 * DAY_MS
"""Older events are refused outside a replay: repeated messageIds are recognised for this long."""


def parse_event(
    message: Any,
    *,
    received_at: datetime,
    type: EventType | None = None,
    sent_at: str | None = None,
    replay: bool = False,
    source: str = "",
) -> Event:
    """Check one message of the Segment dialect and make it regular.

    Args:
        message: the decoded JSON value.
        received_at: when the collector took it.
        type: what the route says it is; the message's own ``type`` where the route says nothing.
        sent_at: the batch's ``sentAt``, where the message has none.
        replay: accept events of any age.
        source: who sent it.

    Raises:
        InvalidEvent: names the field, the value and what is allowed.
    """
    if not isinstance(message, dict):
        raise InvalidEvent("message", message, "a JSON object")
    kind = type or _event_type(message.get("type"))
    user_id, anonymous_id = _person(message, kind)
    message_id, name = _required_id(message, "messageId"), _name(message, kind)
    _check_not_system(message_id, name)
    properties = _mapping(message, "properties")
    received_ms = to_ms(received_at)
    event = Event(
        message_id=MessageId(message_id),
        type=kind,
        name=name,
        user_id=user_id,
        anonymous_id=anonymous_id,
        at_ms=_event_time(message, received_ms=received_ms, sent_at=sent_at, replay=replay),
        received_ms=received_ms,
        properties=properties,
        traits=_traits(message, kind),
        context=_mapping(message, "context"),
        lines=lines_of(kind, name, properties),
        source=source,
    )
    _checklines_of(event)
    return event


def encode_event(event: Event) -> bytes:
    """Return the payload of a checked event, within the size limit.

    Raises:
        InvalidEvent: the event is larger than ``MAX_MESSAGE_BYTES``.
    """
    try:
        payload = event.to_payload()
    except TypeError as error:
        raise InvalidEvent(
            "message", event.message_id, "values that JSON can carry, nested at most 250 deep"
        ) from error
    if len(payload) > MAX_MESSAGE_BYTES:
        raise InvalidEvent("message", f"{len(payload)} bytes", f"at most {MAX_MESSAGE_BYTES} bytes")
    return payload


def _event_type(value: Any) -> EventType:
    try:
        return EventType(value)
    except ValueError:
        raise InvalidEvent("type", value, "one of " + ", ".join(EventType)) from None


def _person(message: Mapping[str, Any], kind: EventType) -> tuple[str | None, str | None]:
    user_id = _optional_id(message, "userId")
    anonymous_id = _optional_id(message, "anonymousId")
    if user_id is None and anonymous_id is None:
        raise InvalidEvent("userId", None, "userId or anonymousId, a non-empty string")
    if user_id is not None and user_id.startswith(ANONYMOUS):
        raise InvalidEvent("userId", user_id, f"an id that does not start with {ANONYMOUS!r}")
    if kind is EventType.ALIAS:
        _required_id(message, "previousId")
    if kind is EventType.GROUP:
        _required_id(message, "groupId")
    return user_id, anonymous_id


def _check_not_system(message_id: str, name: str | None) -> None:
    if name in SYSTEM_EVENTS:
        raise InvalidEvent("event", name, "a name other than those of the system's own events")
    if message_id.startswith(SYSTEM_IDS):
        raise InvalidEvent("messageId", message_id, f"an id that does not start with {' or '.join(SYSTEM_IDS)}")


def _required_id(message: Mapping[str, Any], name: str) -> str:
    value = _optional_id(message, name)
    if value is None:
        raise InvalidEvent(name, None, f"a non-empty string of at most {MAX_ID_CHARS} characters")
    return value


def _optional_id(message: Mapping[str, Any], name: str) -> str | None:
    value = message.get(name)
    if value is None:
        return None
    return _id(value, name)


def _id(value: Any, name: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_ID_CHARS or not value.isprintable():
        raise InvalidEvent(name, value, f"a non-empty printable string of at most {MAX_ID_CHARS} characters")
    return value


def _name(message: Mapping[str, Any], kind: EventType) -> str | None:
    key = "event" if kind is EventType.TRACK else "name"
    if kind not in (EventType.TRACK, EventType.PAGE, EventType.SCREEN):
        return None
    value = message.get(key)
    if value is None and kind is not EventType.TRACK:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_NAME_CHARS:
        raise InvalidEvent(key, value, f"a non-empty string of at most {MAX_NAME_CHARS} characters")
    return value


def _mapping(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidEvent(name, value, "a JSON object")
    return value


def _traits(message: Mapping[str, Any], kind: EventType) -> dict[str, Any]:
    traits = _mapping(message, "traits")
    if kind is EventType.ALIAS:
        return {**traits, "previousId": message["previousId"]}
    if kind is EventType.GROUP:
        return {**traits, "groupId": message["groupId"]}
    return traits


def _event_time(message: Mapping[str, Any], *, received_ms: int, sent_at: str | None, replay: bool) -> int:
    """Return when it happened: ``receivedAt - (sentAt - originalTimestamp)`` where the sender says when it sent."""
    original = _time(message, "originalTimestamp")
    if original is None:
        original = _time(message, "timestamp")
    if original is None:
        return received_ms
    sent = _time(message, "sentAt")
    if sent is None and sent_at is not None:
        sent = _time({"sentAt": sent_at}, "sentAt")
    at_ms = original if sent is None or replay else received_ms - (sent - original)
    if at_ms > received_ms + MAX_FUTURE_MS:
        allowed = f"a time at most {MAX_FUTURE_MS // MINUTE_MS} minutes after it was received"
        raise InvalidEvent("timestamp", message.get("timestamp"), allowed)
    if at_ms < received_ms - MAX_AGE_MS and not replay:
        allowed = f"a time at most {MAX_AGE_MS // DAY_MS} days old; older history comes in with `bespoke ingest`"
        raise InvalidEvent("timestamp", message.get("timestamp"), allowed)
    return at_ms


def _time(message: Mapping[str, Any], name: str) -> int | None:
    value = message.get(name)
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise ValueError
        at_ms = to_ms(datetime.fromisoformat(value))
    except (ValueError, OverflowError):
        raise InvalidEvent(name, value, "an ISO 8601 time such as 2026-01-31T12:00:00Z") from None
    if at_ms < 0:
        raise InvalidEvent(name, value, "a time after 1970")
    return at_ms


def _checklines_of(event: Event) -> None:
    if event.type is not EventType.TRACK or event.name not in INTERACTION_OF_NAME:
        return
    products = event.properties.get("products")
    if products is None:
        _check_line(event.properties, "properties")
        return
    if not isinstance(products, list) or not 1 <= len(products) <= MAX_LINES:
        raise InvalidEvent("properties.products", products, f"a list of 1 to {MAX_LINES} products")
    for n, row in enumerate(products):
        path = f"properties.products[{n}]"
        if not isinstance(row, dict):
            raise InvalidEvent(path, row, "a JSON object with a product_id")
        _check_line(row, path)


def _check_line(row: Mapping[str, Any], path: str) -> None:
    item_id = row.get("product_id")
    if item_id.__class__ is not str or not item_id or len(item_id) > MAX_ID_CHARS or not item_id.isprintable():
        _id(item_id, f"{path}.product_id")
    _check_amount(row.get("quantity"), f"{path}.quantity")
    _check_amount(row.get("price"), f"{path}.price")
    _check_label(row.get("category"), f"{path}.category")
    _check_label(row.get("brand"), f"{path}.brand")


def _check_label(value: Any, path: str) -> None:
    if value is not None and (value.__class__ is not str or len(value) > MAX_ID_CHARS):
        raise InvalidEvent(path, value, f"a string of at most {MAX_ID_CHARS} characters")


def _check_amount(value: Any, path: str) -> None:
    if value is None:
        return
    if value.__class__ not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1e12:
        raise InvalidEvent(path, value, "a finite number, 0 or more")
