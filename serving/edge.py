"""The edge: what every request passes before a route sees it, as plain ASGI middleware.

From the outside in: :class:`ErrorGuard`, :class:`InFlightLimit`, :class:`RequestTimeout`, :class:`BodyLimit`.
"""

import asyncio
import logging
import traceback
import zlib
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RETRY_AFTER, RequestError, error_response

logger = logging.getLogger(__name__)

DRAIN_BYTES = 16 * 1024 * 1024
"""How much of a body that is too large is still read, so that the sender reads the answer and not a broken pipe."""
PROBES = ("/healthz", "/readyz")
"""Paths that are answered under any load."""
STREAMS = "/api/v1/segments/stream"
"""How the path of answers ends that go on as long as the client stays: they are counted apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one application takes on."""

    max_body_bytes: int
    """Of the body as sent and, where it is gzip, of what it unpacks to."""
    max_in_flight: int = 100
    timeout_s: float = 5.0
    """Until the answer is whole; of a stream, until it begins."""
    max_streams: int = 100


def add_edge(app: FastAPI, limits: Limits) -> None:
    """Put the edge around ``app``."""
    # Starlette puts the middleware that is added last outermost.
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes)
    app.add_middleware(RequestTimeout, timeout_s=limits.timeout_s)
    app.add_middleware(InFlightLimit, max_in_flight=limits.max_in_flight, max_streams=limits.max_streams)
    app.add_middleware(ErrorGuard)


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
            # The route as it is declared: the path may hold a person's id.
            route = getattr(scope.get("route"), "path", "no route")
            logger.error("%s %s: %s at %s", scope["method"], route, type(error).__name__, place_of(error))
            if not started:
                response = error_response(500, "internal", "the request failed; nothing is known to be wrong with it")
                await response(scope, receive, send)


def place_of(error: BaseException) -> str:
    """Return where ``error`` was raised, without its message, which may hold ids."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))


class InFlightLimit:
    """Answers 503 at once where more requests are under way than the process can finish in time.

    Streams have a limit of their own: they last, and would leave no room for requests.
    """

    def __init__(self, app: ASGIApp, *, max_in_flight: int, max_streams: int) -> None:
        self._app = app
        self._max = {False: max_in_flight, True: max_streams}
        self._in_flight = {False: 0, True: 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, or refuse it."""
        if scope["type"] != "http" or scope["path"].endswith(PROBES):
            return await self._app(scope, receive, send)
        stream = is_stream(scope)
        if self._in_flight[stream] >= self._max[stream]:
            message = f"too many {'streams' if stream else 'requests'} at once; try again"
            return await error_response(503, "overloaded", message, headers=RETRY_AFTER)(scope, receive, send)
        self._in_flight[stream] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight[stream] -= 1


def is_stream(scope: Scope) -> bool:
    """Return whether the answer of a request goes on as long as the client stays."""
    return bool(scope["path"].endswith(STREAMS))


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
    """Reads the body up to a limit and unpacks gzip up to the same limit, so that routes see plain bytes."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

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
                scope = _plain(scope, len(body))
            elif encoding != "identity":
                raise RequestError(415, "unsupported_encoding", "Content-Encoding may be gzip, or absent")
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


def _plain(scope: Scope, size: int) -> Scope:
    plain = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=plain)
    del headers["content-encoding"]
    headers["content-length"] = str(size)
    return plain


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
