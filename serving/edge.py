"""The edge: what every request passes before a route sees it, as plain ASGI middleware.

From the outside in: :class:`serving.front.Front`, :class:`Access`, :class:`ErrorGuard`, :class:`RequestTimeout`,
:class:`BodyLimit`.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import logs
from serving.admission import MAX_WAIT_S, Admission
from serving.errors import INTERNAL, RequestError, error_response, route_of
from serving.front import FRONT, REQUEST_ID, Front, is_stream
from serving.json_limits import MAX_VALUES, check_json
from serving.logs import place_of as place_of
from serving.metrics import Metrics

logger = logging.getLogger(__name__)

DRAIN_BYTES = 16 * 1024 * 1024
"""How much of a body that is too large is still read, so that the sender reads the answer and not a broken pipe."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one application takes on."""

    max_body_bytes: int
    """Of the body as sent and, where it is gzip, of what it unpacks to."""
    max_in_flight: int = 100
    """Whatever was measured; how many can be answered in time is found out by :class:`serving.admission.Admission`."""
    max_wait_s: float = MAX_WAIT_S
    timeout_s: float = 5.0
    """Until the answer is whole; of a stream, until it begins."""
    max_streams: int = 100
    max_values: int = MAX_VALUES
    """Members of all arrays and objects of a JSON body."""


def add_edge(app: FastAPI, limits: Limits, *, metrics: Metrics | None = None) -> None:
    """Put the edge around ``app``; under Serve a :class:`Front` stands in front of that, and this one rests."""
    # Starlette puts the middleware that is added last outermost.
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes, max_values=limits.max_values)
    app.add_middleware(RequestTimeout, timeout_s=limits.timeout_s)
    app.add_middleware(ErrorGuard)
    app.add_middleware(Access, metrics=metrics or Metrics("app"))
    admission = Admission(max_wait_s=limits.max_wait_s, ceiling=limits.max_in_flight)
    app.add_middleware(Front, admission=admission, max_streams=limits.max_streams)


class Access:
    """Counts every answer and its time by route, and logs one line of it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, monotonic: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._monotonic = monotonic
        self._front: Front | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, and write down what became of it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope[FRONT] is not self._front and isinstance(scope[FRONT], Front):
            self._meet(scope[FRONT])
        logs.request_id.set(scope[REQUEST_ID])
        started_s = self._monotonic()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if is_stream(scope):
                    self._done(scope, status, self._monotonic() - started_s)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # Without a status the client left before there was an answer.
            if not (status and is_stream(scope)):
                self._done(scope, status or 499, self._monotonic() - started_s)

    def _meet(self, front: Front) -> None:
        self._front = front
        self._metrics.add_source(lambda: front.report(self._metrics))

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = route_of(scope), scope["method"]
        self._metrics.requests(route, method, status, seconds)
        self._metrics.refresh()
        level = logging.ERROR if status >= 500 else logging.INFO
        if logger.isEnabledFor(level):
            known = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 3)}
            logger.log(level, "request", extra=known)


class ErrorGuard:
    """Answers 500 without internals where anything is raised, and logs where it was raised, never the values."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            logger.error("%s %s: %s at %s", scope["method"], route_of(scope), type(error).__name__, place_of(error))
            if not started:
                await error_response(500, "internal", INTERNAL)(scope, receive, send)


class RequestTimeout:
    """Answers 504 where a request takes too long; work that was handed to a thread goes on.

    A stream has to begin in time, and may then go on.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request for at most the timeout."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            if is_stream(scope):
                deadline.reschedule(None)
            await send(message)

        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                await self._app(scope, receive, watched)
        except TimeoutError:
            if started or not deadline.expired():
                raise
            response = error_response(504, "timeout", f"no answer within {self._timeout_s:g} s; try again")
            await response(scope, receive, send)


class BodyLimit:
    """Reads the body up to a limit and unpacks gzip up to the same limit, so that routes see plain bytes.

    Every body here is JSON, whatever its Content-Type says, and its depth is looked at before it is parsed.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_values: int = MAX_VALUES) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_values = max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and run the request with it, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            body = await _read(receive, max_bytes=self._max_bytes)
            if body is None:
                return
            encoding = Headers(scope=scope).get("content-encoding", "identity").lower()
            if encoding == "gzip":
                body = gunzip(body, max_bytes=self._max_bytes)
                _say_plain(scope, len(body))
            elif encoding != "identity":
                raise RequestError(415, "unsupported_encoding", "Content-Encoding may be gzip, or absent")
            check_json(body, max_values=self._max_values)
        except RequestError as error:
            return await error_response(error.status, error.code, str(error))(scope, receive, send)
        await self._app(scope, _once(body, receive), send)


def gunzip(body: bytes, *, max_bytes: int) -> bytes:
    """Return what ``body`` unpacks to.

    Raises:
        RequestError: it is not one gzip member, or unpacks to more than ``max_bytes``.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(body, max_bytes + 1)
    except zlib.error:
        raise RequestError(400, "invalid_gzip", "Content-Encoding says gzip and the body is not") from None
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError(400, "invalid_gzip", "the gzip body is cut short, or something follows it")
    return plain


async def _read(receive: Receive, *, max_bytes: int) -> bytes | None:
    """Return the body, or None where the sender left."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        size += len(message.get("body", b""))
        if size <= max_bytes:
            chunks.append(message.get("body", b""))
        if size > DRAIN_BYTES or not message.get("more_body", False):
            break
    if size > max_bytes:
        raise _too_large(max_bytes)
    return b"".join(chunks)


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(413, "too_large", f"the body is larger than {max_bytes} bytes; send several smaller ones")


def _say_plain(scope: Scope, size: int) -> None:
    # In the scope itself: a copy of it would not tell the layers outside which route was found.
    headers = MutableHeaders(scope=scope)
    del headers["content-encoding"]
    headers["content-length"] = str(size)


def _once(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields ``body`` whole and then what ``receive`` yields."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
