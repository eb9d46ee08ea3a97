"""The stream of transitions over HTTP: server-sent events whose ids are positions in the log.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (blocks, Last-Event-ID, retry).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import StringConstraints
from starlette.types import Receive, Scope, Send

from bespoke.errors import Unavailable
from serving.errors import RequestError
from serving.schemas import ErrorBody
from serving.tokens import from_token, to_token
from serving.transitions import Listener, Offsets, Transition, TransitionFeed
from storage.eventlog.base import Position

HEARTBEAT_S = 15.0
"""What stands between must see bytes: the ingress ends a connection that is silent for a minute."""
STREAM_S = 900.0
"""How long one stream lasts: a key that was revoked stops then, and clients spread over new replicas."""
AGAIN = "connect again with Last-Event-ID"
MAX_NAMES = 100

SegmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class SegmentStream(Response):
    """Sends transitions until the client leaves, is too slow, or time is up."""

    media_type = "text/event-stream"

    def __init__(
        self,
        feed: TransitionFeed,
        *,
        wanted: frozenset[str],
        position: Offsets | None,
        remarks: Collection[str] = (),
        heartbeat_s: float = HEARTBEAT_S,
        stream_s: float = STREAM_S,
    ) -> None:
        """Prepare the answer.

        Args:
            feed: where transitions come from.
            wanted: names of segments; empty: all.
            position: where the client was; None: it is new.
            remarks: what to tell at the beginning, a line each.
            heartbeat_s: the longest time without a byte.
            stream_s: how long the stream lasts.
        """
        # Proxies must hand on every block as it comes.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed, self._wanted, self._position, self._remarks = feed, wanted, position, remarks
        self._heartbeat_s, self._stream_s = heartbeat_s, stream_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            Unavailable: the log cannot be read; nothing was sent.
        """
        async with self._feed.listen(self._wanted, self._position) as listener:
            sending = asyncio.create_task(self._send(listener, send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.wait((sending, leaving))
        if not sending.cancelled():
            sending.result()

    async def _send(self, listener: Listener, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for block in self._blocks(listener):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _blocks(self, listener: Listener) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._stream_s
        # The first id comes before any event: who is cut off now goes on from here.
        yield (
            "".join(f": {remark}\n" for remark in self._remarks).encode() + b"retry: 1000\n" + _mark(listener.position)
        )
        while not listener.over and loop.time() < until_s:
            position = dict(listener.position)
            try:
                news = await listener.take(self._heartbeat_s)
            except Unavailable:
                yield _comment("the event log cannot be read now")
                return
            told = b"".join(_block(transition, position) for transition in news.transitions)
            # An id alone is no event to clients, and yet they remember it.
            yield told or b": nothing new\n" + _mark(listener.position)
        yield _comment(listener.ended or "time is up")


def stream_routes(
    feed: TransitionFeed,
    *,
    check_key: Callable[..., Any],
    names: Callable[[], Collection[str]],
    heartbeat_s: float = HEARTBEAT_S,
) -> APIRouter:
    """Return the route ``GET /api/v1/segments/stream``.

    Args:
        feed: where transitions come from.
        check_key: lets only good keys pass.
        names: the segments that are defined; it may block.
        heartbeat_s: the longest time without a byte.
    """
    router = APIRouter(prefix="/api/v1", tags=["segments"], dependencies=[Depends(check_key)])

    @router.get(
        "/segments/stream",
        summary="Who enters and leaves segments, as it happens",
        response_class=Response,
        responses={
            200: {
                "description": "Server-sent events `Segment Entered` and `Segment Left`, at least once each, in the "
                "order of each person's transitions. The data is a JSON object with `userId` or `anonymousId`, "
                "`segment`, `ordinal`, `reason`, `at`, `messageId` and, where a late event corrects an earlier "
                "transition, `corrects`. Comments come at least every 15 s. A stream ends after 15 minutes, or where "
                "the client is too slow: connect again with `Last-Event-ID`, and it goes on exactly there.",
                "content": {"text/event-stream": {}},
            },
            **{status: {"model": ErrorBody} for status in (401, 403, 422, 503)},
        },
    )
    async def stream(
        segment: Annotated[
            list[SegmentName] | None, Query(max_length=MAX_NAMES, description="Only these; all by default. Repeatable.")
        ] = None,
        last_event_id: Annotated[
            str | None, Header(max_length=2_000, description="The id of the last event that was received.")
        ] = None,
    ) -> Response:
        position = position_of(last_event_id, partitions=feed.partitions) if last_event_id else None
        wanted = frozenset(segment or ())
        unknown = wanted.difference(await asyncio.to_thread(names)) if wanted else ()
        # Not refused: somebody may still leave a segment that is no longer defined.
        remarks = [f"no segment is called {name} now" for name in sorted(unknown)]
        return SegmentStream(feed, wanted=wanted, position=position, remarks=remarks, heartbeat_s=heartbeat_s)

    return router


def position_of(token: str, *, partitions: int) -> dict[int, int]:
    """Return partition -> next offset of an id that a stream has sent.

    Raises:
        RequestError: it is no such id.
    """
    try:
        position = from_token(token)
    except RequestError:
        position = {}
    if position.keys() != set(range(partitions)):
        message = f"Last-Event-ID: got {token[:40]!r}, expected the id of an event of this stream, or no such header"
        raise RequestError(422, "invalid_last_event_id", message)
    return position


def _token(position: Offsets) -> str:
    return to_token(Position(partition, offset) for partition, offset in position.items())


def _mark(position: Offsets) -> bytes:
    return b"id: %s\n\n" % _token(position).encode()


def _comment(why: str) -> bytes:
    return f": {why}; {AGAIN}\n\n".encode()


def _block(transition: Transition, position: dict[int, int]) -> bytes:
    """Return one event, and move ``position`` beyond it."""
    position[transition.position.partition] = transition.position.offset + 1
    name = transition.name.encode()
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (_token(position).encode(), name, transition.data)


async def _left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
