"""What the quality store is told of one request: counts by event, and the messages that were refused."""

from typing import Any

import orjson

from bespoke.errors import InvalidEvent
from bespoke.events import ANONYMOUS, Event, EventType
from bespoke.parsing import MAX_MESSAGE_BYTES
from bespoke.tracking import TrackingPlan, encode_judged, reason_key
from storage.quality import FailedEvent
from storage.quality_counts import EventTally, QualityCounts

MAX_KEPT_BYTES = 2 * MAX_MESSAGE_BYTES
"""Larger messages are kept as failed without their content: the log takes none of more than half the size."""
BODY = "body"
"""The reason of a whole request that could not be read."""


class BatchQuality:
    """Gathers what one request came to; nothing is counted before :meth:`hand_over`."""

    def __init__(self, source: str, route: EventType | None, *, received_ms: int) -> None:
        self.source, self.route, self._received_ms = source, route, received_ms
        self.sent_at: Any = None
        """The batch's ``sentAt``, whatever it is."""
        self._accepted = EventTally()
        self._others: dict[tuple[str, str, str], int] = {}
        self._failed: list[FailedEvent] = []

    def accepted(self, event: Event) -> None:
        """Count an event that is taken."""
        self._accepted.add(event)

    def planned(self, plan: TrackingPlan, event: Event) -> bytes:
        """Hold an event against the plan, count what is broken, and return its payload as it is kept.

        Raises:
            InvalidEvent: the plan refuses it, or it is too large.
        """
        violations = plan.check(event)
        for key in {violation.key for violation in violations}:
            self._count(event.type.value, event.name or "", f"violation:{key}")
        return encode_judged(event, violations)

    def rejected(self, message: Any, reason: InvalidEvent) -> None:
        """Count a message that is refused, and keep it."""
        type_, name = _named(message, self.route)
        key = reason_key(reason)
        self._count(type_, name, f"rejected:{key}")
        payload = _encoded(message)
        self._failed.append(
            FailedEvent(
                received_ms=self._received_ms,
                source=self.source,
                reason=key,
                error=str(reason),
                route=None if self.route is None else self.route.value,
                sent_at=None if self.sent_at is None else orjson.dumps(self.sent_at).decode(),
                person=_person(message),
                payload=payload if len(payload) <= MAX_KEPT_BYTES else b"",
            )
        )

    def unreadable(self) -> None:
        """Count a request whose body is no JSON, or no message or batch."""
        self._count("", "", f"rejected:{BODY}")

    def clear(self) -> None:
        """Forget everything: the request was not answered for."""
        self._accepted, self._others, self._failed = EventTally(), {}, []

    def hand_over(self, counts: QualityCounts) -> None:
        """Give it all to ``counts``."""
        tallies = {**self._accepted.tallies(), **self._others}
        if tallies:
            counts.add_all(tallies, at_ms=self._received_ms, source=self.source)
        if self._failed:
            counts.keep(self._failed)

    def _count(self, type_: str, name: str, what: str) -> None:
        key = (type_, name, what)
        self._others[key] = self._others.get(key, 0) + 1


def _named(message: Any, route: EventType | None) -> tuple[str, str]:
    """Return the type and name of a message that may be anything."""
    if not isinstance(message, dict):
        return "" if route is None else route.value, ""
    kind = message.get("type") if route is None else route.value
    name = message.get("event") or message.get("name")
    known = isinstance(kind, str) and kind in _TYPES
    return str(kind) if known else "", name[:200] if isinstance(name, str) else ""


def _person(message: Any) -> str:
    if not isinstance(message, dict):
        return ""
    for key, prefix in (("userId", ""), ("anonymousId", ANONYMOUS)):
        value = message.get(key)
        if value.__class__ in (str, int):
            return f"{prefix}{value}"[:300]
    return ""


def _encoded(message: Any) -> bytes:
    try:
        return orjson.dumps(message)
    except TypeError:
        # Nested deeper than can be written: it cannot become good either.
        return b""


_TYPES = frozenset(EventType)
