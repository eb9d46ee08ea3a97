"""What a request passes first: headers that steer Serve are taken away, it gets an id, and is refused where it is late.

In a replica this stands in front of Serve's own code, which reads those headers before an application sees the request:
``serving.front:middlewares`` is what :data:`serving.ingress.INGRESS_ENV` names for that. An application that runs
without Serve puts it in front of itself.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.admission import Admission
from serving.errors import INTERNAL, OVERLOADED, error_bytes
from serving.logs import place_of
from serving.metrics import Metrics

logger = logging.getLogger(__name__)

ALWAYS_ANSWERED = frozenset(
    prefix + path
    for prefix in ("", "/collect")
    for path in ("/healthz", "/readyz", "/metrics", "/-/healthz", "/-/routes")
) | {"/api/v1/models"}
"""Paths that are answered under any load: what asks whether a process is well, and with which models it answers."""
STREAMS = "/api/v1/segments/stream"
"""How the path of answers ends that go on as long as the client stays: they are counted apart."""
FRONT = "bespoke.front"
"""Where a request's scope says that it has passed here."""
REQUEST_ID = "bespoke.request_id"
MAX_STREAMS = 100

Headers = list[tuple[bytes, bytes]]

_TAKEN_AWAY = frozenset(
    spelled.encode()
    for name in (
        "x-request-id",
        "x-request-timeout-seconds",  # 0 turns Serve's own timeout off.
        "x-request-disconnect-disabled",  # Serve would go on for a client that has left.
        "serve-multiplexed-model-id",  # Steers which replica answers, and is logged as it comes.
        "x-session-id",
    )
    for spelled in (name, name.replace("-", "_"))
)
_ROUTER_PREFIX = b"x-serve-"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_-]{1,64}")
_JSON = (b"content-type", b"application/json")
_RETRY_AFTER = (b"retry-after", b"1")


def _refusal(status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> tuple[int, Headers, bytes]:
    body = error_bytes(code, message)
    return status, [_JSON, (b"content-length", str(len(body)).encode()), *headers], body


_OVERLOADED = _refusal(503, "overloaded", OVERLOADED, _RETRY_AFTER)
_TOO_MANY_STREAMS = _refusal(503, "overloaded", "too many streams at once; try again", _RETRY_AFTER)
_FAILED = _refusal(500, "internal", INTERNAL)


class Front:
    """The outermost layer of a process."""

    def __init__(self, app: ASGIApp, *, admission: Admission | None = None, max_streams: int = MAX_STREAMS) -> None:
        self._app = app
        self._admission = admission or Admission()
        self._max_streams, self._streams = max_streams, 0
        self._refused: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, or refuse it."""
        if scope["type"] not in ("http", "websocket") or FRONT in scope:
            return await self._app(scope, receive, send)
        request_id = prepare(scope)
        scope[FRONT] = self
        if scope["type"] == "websocket":
            return await self._app(scope, receive, send)
        guarded = _Answer(request_id, send)
        if scope["path"] in ALWAYS_ANSWERED:
            return await self._run(scope, receive, guarded)
        if is_stream(scope):
            return await self._stream(scope, receive, guarded)
        ticket = self._admission.enter()
        if ticket is None:
            self._refused["overloaded"] += 1
            return await guarded.whole(_OVERLOADED)
        # With the last byte, and not when everything behind it has been put away: the client may ask again by then.
        guarded.ended = partial(self._admission.leave, ticket)
        try:
            await self._run(scope, receive, guarded)
        finally:
            guarded.end()

    async def _stream(self, scope: Scope, receive: Receive, guarded: "_Answer") -> None:
        if self._streams >= self._max_streams:
            self._refused["too_many_streams"] += 1
            return await guarded.whole(_TOO_MANY_STREAMS)
        self._streams += 1
        try:
            await self._run(scope, receive, guarded)
        finally:
            self._streams -= 1

    async def _run(self, scope: Scope, receive: Receive, guarded: "_Answer") -> None:
        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            logger.error("%s: %s at %s", scope["method"], type(error).__name__, place_of(error))
            if not guarded.started:
                await guarded.whole(_FAILED)

    def __reduce__(self) -> tuple[type["Elsewhere"], tuple[()]]:
        """Serve's own proxy, which stands in where HAProxy finds no replica, sends the scope to another process."""
        return Elsewhere, ()

    def report(self, metrics: Metrics) -> None:
        """Tell ``metrics`` how full it is, and what was refused since the last time."""
        metrics.in_flight(self._admission.in_flight, self._admission.limit)
        for reason, count in list(self._refused.items()):
            metrics.refused(reason, count - self._reported[reason])
            self._reported[reason] = count


@dataclass(frozen=True)
class Elsewhere:
    """Stands for a front that a request has passed in another process."""


class _Answer:
    """Sends an answer, with the request's id among its headers."""

    __slots__ = ("_header", "_send", "ended", "started")

    def __init__(self, request_id: bytes, send: Send) -> None:
        self._header, self._send, self.started = (b"x-request-id", request_id), send, False
        self.ended: Callable[[], None] | None = None
        """What to call once, at the end of the answer."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            others = [header for header in message.get("headers", ()) if header[0].lower() != b"x-request-id"]
            message = {**message, "headers": [*others, self._header]}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.end()

    def end(self) -> None:
        """Say that the answer is over."""
        ended, self.ended = self.ended, None
        if ended is not None:
            ended()

    async def whole(self, refusal: tuple[int, Headers, bytes]) -> None:
        """Send a whole answer."""
        status, headers, body = refusal
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, self._header]})
        await self._send({"type": "http.response.body", "body": body})


def prepare(scope: Scope) -> bytes:
    """Take from ``scope`` the headers that clients may not set, and give it a request id; return that.

    The client's own id stands where it cannot do harm in a log; any other is replaced.
    """
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    own = given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else os.urandom(16).hex().encode()
    scope["headers"] = [*_allowed(scope["headers"]), (b"x-request-id", own)]
    scope[REQUEST_ID] = own.decode()
    return own


def _allowed(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that are the application's business."""
    kept = [(name, value) for name, value in headers if name not in _TAKEN_AWAY]
    return [header for header in kept if not header[0].replace(b"_", b"-").startswith(_ROUTER_PREFIX)]


def is_stream(scope: Scope) -> bool:
    """Return whether the answer of a request goes on as long as the client stays."""
    return bool(scope["path"].endswith(STREAMS))


def middlewares() -> list[Middleware]:
    """Return what Serve puts in front of itself, in each of its processes that answer over HTTP."""
    return [Middleware(Front)]
