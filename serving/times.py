"""The time of a request: read once, when it arrives, and passed on."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import Header

from bespoke.clock import Clock, utc
from serving.errors import RequestError

TIME_HEADER = "X-Bespoke-Time"


def request_time(clock: Clock, *, replay: bool) -> Callable[..., Awaitable[datetime]]:
    """Return a route dependency that yields the time of a request, UTC-aware.

    In a replay the request may name it in the header ``X-Bespoke-Time``; otherwise that header is ignored.
    """

    async def now() -> datetime:
        return clock.now()

    async def named(time: Annotated[str | None, Header(alias=TIME_HEADER)] = None) -> datetime:
        if time is None:
            return clock.now()
        try:
            return utc(datetime.fromisoformat(time))
        except (ValueError, OverflowError):
            message = f"{TIME_HEADER}: got {time[:40]!r}, expected an ISO 8601 time such as 2026-01-31T12:00:00Z"
            raise RequestError(400, "invalid_time", message) from None

    return named if replay else now
