"""Time: one clock per process, read once per request or message and passed on; milliseconds since 1970 UTC inside."""

import re
from datetime import UTC, datetime
from typing import Protocol

from bespoke.errors import shown

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS

_UNITS_MS = {"second": SECOND_MS, "minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS, "week": WEEK_MS}


class Clock(Protocol):
    """Tells the time; what reads it passes the reading on."""

    def now(self) -> datetime:
        """Return the current time, UTC-aware."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time, UTC-aware."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands until it is set: for replays of old data and for tests."""

    def __init__(self, at: datetime) -> None:
        self._at = utc(at)

    def now(self) -> datetime:
        """Return the time that was last set."""
        return self._at

    def set(self, at: datetime) -> None:
        """Move the clock to ``at``."""
        self._at = utc(at)


def utc(at: datetime) -> datetime:
    """Return ``at`` in UTC; a time without a zone is taken as UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def to_ms(at: datetime) -> int:
    """Return milliseconds since 1970 UTC.

    >>> to_ms(datetime(1970, 1, 2, tzinfo=UTC))
    86400000
    """
    delta = utc(at) - _EPOCH
    return delta.days * DAY_MS + delta.seconds * SECOND_MS + delta.microseconds // 1_000


def from_ms(ms: int) -> datetime:
    """Return the UTC time of ``ms`` milliseconds since 1970.

    >>> from_ms(86_400_000).isoformat()
    '1970-01-02T00:00:00+00:00'
    """
    return datetime.fromtimestamp(ms / SECOND_MS, UTC)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(text: str) -> int:
    """Return the milliseconds of a length of time such as ``2 days``.

    Raises:
        ValueError: it is none.

    >>> duration_ms("90 minutes")
    5400000
    """
    found = re.fullmatch(r"(\d{1,6}) (second|minute|hour|day|week)s?", text)
    if found is None or int(found[1]) == 0:
        raise ValueError(f"got {shown(text)}, expected a length of time such as '2 days' or '12 hours'")
    return int(found[1]) * _UNITS_MS[found[2]]
