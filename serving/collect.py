"""Events in: the Segment dialect over HTTP, into the event log. A 2xx means durable."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from bespoke.clock import to_ms
from bespoke.errors import InvalidEvent, shown
from bespoke.events import EventType
from bespoke.parsing import encode_event, parse_event
from bespoke.tracking import TrackingPlan
from serving.collect_quality import BatchQuality
from serving.errors import RequestError
from serving.metrics import Metrics
from serving.schemas import CollectAccepted, CollectError
from serving.tokens import to_token
from storage.control_keys import KeyInfo
from storage.eventlog.base import EventLog, Message
from storage.quality_counts import QualityCounts

MAX_BATCH = 1_000
APPEND_THREADS = 16
"""Requests that wait together for one write to the disk."""
JSON_BODY: dict[str, Any] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that was refused, and why."""

    index: int
    message_id: str | None
    reason: InvalidEvent

    def to_json(self) -> dict[str, Any]:
        """Return the form that clients read."""
        reason = self.reason
        return {
            "index": self.index,
            "messageId": self.message_id,
            "field": reason.field,
            "value": reason.value,
            "allowed": reason.allowed,
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one request's events."""

    accepted: int
    token: str
    rejected: tuple[Rejection, ...]


class Collector:
    """Checks events and appends the good ones to the event log."""

    def __init__(
        self,
        log: EventLog,
        *,
        replay: bool = False,
        plan: TrackingPlan | None = None,
        counts: QualityCounts | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Collect into ``log``.

        Args:
            log: where good events go.
            replay: accept events of any age.
            plan: what events are held against once their form is right.
            counts: where the quality of what comes in is counted, and failed events are kept.
            metrics: where events are counted for Prometheus.
        """
        self._log = log
        self._replay = replay
        self._plan = plan
        self._counts = counts
        self._metrics = metrics

    def accept(self, body: bytes, *, received_at: datetime, type: EventType | None, source: str = "") -> Receipt:
        """Store the events of one request body; when this returns they are durable.

        Args:
            body: one message where ``type`` says what it is, a batch where it does not.
            received_at: when the request arrived.
            type: what the route says the message is.
            source: the name of the key that it came with.

        Raises:
            RequestError: the body cannot be read, holds too many events, or none of them is valid.
            Unavailable: the event log cannot be written now.
        """
        quality = BatchQuality(source, type, received_ms=to_ms(received_at))
        try:
            receipt = self._accept(body, quality, received_at=received_at)
        finally:
            if self._counts is not None:
                quality.hand_over(self._counts)
        return receipt

    def _accept(self, body: bytes, quality: BatchQuality, *, received_at: datetime) -> Receipt:
        type, source, plan = quality.route, quality.source, self._plan
        try:
            messages, sent_at = _messages(body, single=type is not None)
        except RequestError:
            quality.unreadable()
            raise
        quality.sent_at = sent_at
        good: list[Message] = []
        types: list[str] = []
        rejected: list[Rejection] = []
        for index, message in enumerate(messages):
            try:
                event = parse_event(
                    message, received_at=received_at, type=type, sent_at=sent_at, replay=self._replay, source=source
                )
                payload = encode_event(event) if plan is None else quality.planned(plan, event)
                types.append(event.type)
                good.append(Message(event.person, event.message_id, event.received_ms, payload))
            except InvalidEvent as reason:
                rejected.append(Rejection(index, _message_id(message), reason))
                quality.rejected(message, reason)
                if self._metrics is not None:
                    # Without places and what stands below: clients choose those names.
                    self._metrics.events_rejected(reason.field.partition(".")[0].partition("[")[0])
            else:
                quality.accepted(event)
        if not good:
            raise _nothing_valid(rejected)
        try:
            positions = self._log.append(good)
        except BaseException:
            # The sender sends all of it again; what counts is what comes of that.
            quality.clear()
            raise
        if self._metrics is not None:
            for name, count in Counter(types).items():
                self._metrics.events_accepted(name, count)
        return Receipt(len(good), to_token(positions), tuple(rejected))


def collect_routes(
    collector: Collector,
    *,
    check_key: Callable[..., Any],
    time: Callable[..., Any],
    threads: ThreadPoolExecutor,
) -> APIRouter:
    """Return the routes that take events in.

    Args:
        collector: what takes them.
        check_key: lets only good keys pass, and returns what is known of the key.
        time: returns the time of a request.
        threads: where requests wait for the disk.
    """
    router = APIRouter(
        prefix="/v1",
        tags=["events"],
        responses={400: {"model": CollectError}, 401: {"model": CollectError}, 413: {"model": CollectError}},
    )

    def add(path: str, kind: EventType | None, summary: str) -> None:
        async def take(
            request: Request, key: Annotated[KeyInfo, Depends(check_key)], at: Annotated[datetime, Depends(time)]
        ) -> Response:
            body = await request.body()
            loop = asyncio.get_running_loop()
            receipt = await loop.run_in_executor(
                threads, lambda: collector.accept(body, received_at=at, type=kind, source=key.name)
            )
            return Response(orjson.dumps(_answer(receipt)), media_type="application/json")

        router.add_api_route(
            path,
            take,
            methods=["POST"],
            summary=summary,
            name=path[1:],
            response_model=CollectAccepted,
            openapi_extra={"requestBody": JSON_BODY},
        )

    for event_type in EventType:
        add(f"/{event_type}", event_type, f"Take one {event_type} message")
    add("/batch", None, f"Take up to {MAX_BATCH} messages")
    return router


def _messages(body: bytes, *, single: bool) -> tuple[Sequence[Any], Any]:
    """Return the messages of a body, and when the batch says that it was sent."""
    document = _document(body)
    return ([document], None) if single else (_batch(document), document.get("sentAt"))


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the body is not JSON: {error.msg} at character {error.pos}; NaN and Infinity are not JSON either"
        raise RequestError(400, "invalid_json", message) from None
    if not isinstance(document, dict):
        raise RequestError(400, "invalid_json", f"the body: got {shown(document)}, expected a JSON object")
    return document


def _batch(document: Mapping[str, Any]) -> Sequence[Any]:
    batch = document.get("batch")
    if not isinstance(batch, list) or not batch:
        raise RequestError(
            400, "invalid_batch", f"batch: got {shown(batch)}, expected a list of 1 to {MAX_BATCH} events"
        )
    if len(batch) > MAX_BATCH:
        message = f"batch: got {len(batch)} events, expected at most {MAX_BATCH}; send several batches"
        raise RequestError(413, "batch_too_large", message)
    shared = document.get("context")
    return list(_with_context(batch, shared)) if isinstance(shared, dict) else batch


def _with_context(batch: Iterable[Any], shared: Mapping[str, Any]) -> Iterable[Any]:
    """Give every message the batch's context, under its own."""
    for message in batch:
        if isinstance(message, dict) and isinstance(message.get("context") or {}, dict):
            yield {**message, "context": {**shared, **(message.get("context") or {})}}
        else:
            yield message


def _message_id(message: Any) -> str | None:
    value = message.get("messageId") if isinstance(message, dict) else None
    return value[:100] if isinstance(value, str) else None


def _nothing_valid(rejected: Sequence[Rejection]) -> RequestError:
    first = rejected[0].reason
    message = str(first) if len(rejected) == 1 else f"none of {len(rejected)} events is valid; the first: {first}"
    details = {"rejected": [rejection.to_json() for rejection in rejected]}
    return RequestError(400, "invalid_event", message, details=details)


def _answer(receipt: Receipt) -> dict[str, Any]:
    answer: dict[str, Any] = {"success": True, "accepted": receipt.accepted, "token": receipt.token}
    if receipt.rejected:
        answer["rejected"] = [rejection.to_json() for rejection in receipt.rejected]
    return answer
