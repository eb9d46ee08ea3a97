"""Recommendations over HTTP: one request is one read of the person's state and one ranking, in this process."""

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Response

from bespoke.clock import to_ms
from bespoke.events import RECOMMENDATION_SERVED, Event, EventType, ItemId, MessageId, UserId, person_id
from bespoke.recommend import Decision, Request, recommend
from serving.exposures import ExposureWriter
from serving.people import PeopleReader, PersonState
from serving.routes import OrjsonRoute
from serving.schemas import ErrorBody, RecommendationRequest, RecommendationResponse, RecommendedItem
from serving.snapshot import Choice, Snapshot
from serving.tokens import from_token
from storage.eventlog import Message


class Recommender:
    """Answers requests from the snapshot in use and the person's state, and writes down what it showed."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        people: PeopleReader,
        exposures: ExposureWriter,
        *,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._snapshot = snapshot
        self._people = people
        self._exposures = exposures
        self._threads = threads

    async def answer(self, asked: RecommendationRequest, *, at: datetime, request_id: str) -> RecommendationResponse:
        """Answer one request; where a model or a store is missing the answer says so in ``degraded``.

        Args:
            asked: who asks for what.
            at: the time of the request.
            request_id: the same id and person give the same recommendationId.

        Raises:
            RequestError: ``after`` is no token.
        """
        after = None if asked.after is None else from_token(asked.after)
        person = person_id(asked.user_id, asked.anonymous_id)
        choice = self._snapshot().choose(person)
        bundle = choice.model.bundle
        service = None if bundle is None else bundle.manifest.feature_service
        state = await self._people.read(person, service=service, after=after, at_ms=to_ms(at))
        request = _request(asked, state, person=person, at_ms=to_ms(at))
        loop = asyncio.get_running_loop()
        decision = await loop.run_in_executor(self._threads, lambda: recommend(request, sources=choice.model.sources))
        answer = _response(decision, choice, state, recommendation_id=recommendation_id(person, request_id))
        self._exposures.put(_exposure(asked, answer, person=person, at_ms=to_ms(at)))
        return answer


def recommendation_routes(
    recommender: Recommender, *, check_key: Callable[..., Any], time: Callable[..., Any]
) -> APIRouter:
    """Return the route ``POST /api/v1/recommendations``."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["recommendations"],
        route_class=OrjsonRoute,
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (400, 401, 403, 413, 422, 503, 504)},
    )

    @router.post("/recommendations", summary="Recommend items to a person", response_model=RecommendationResponse)
    async def recommendations(
        asked: RecommendationRequest,
        at: Annotated[datetime, Depends(time)],
        idempotency_key: Annotated[
            str | None,
            Header(
                description="Requests of one person with the same key are the same recommendation. Without a key a "
                "repeated request is a recommendation of its own, also where the ingress repeats it because a replica "
                "died: a client that needs a repeat to be the same decision sends a key."
            ),
        ] = None,
    ) -> Response:
        answer = await recommender.answer(asked, at=at, request_id=idempotency_key or str(uuid4()))
        return Response(answer.model_dump_json(by_alias=True), media_type="application/json")

    return router


def recommendation_id(person: UserId, request_id: str) -> str:
    """Return the id of what one request of one person led to; it tells nothing of either."""
    return hashlib.sha256(f"{request_id}\n{person}".encode()).hexdigest()[:32]


def _request(asked: RecommendationRequest, state: PersonState, *, person: UserId, at_ms: int) -> Request:
    return Request(
        user_id=person,
        at_ms=at_ms,
        num_results=asked.num_results,
        recent=state.profile.recent,
        item_id=None if asked.item_id is None else ItemId(asked.item_id),
        exclude=frozenset(map(ItemId, asked.exclude)),
        degraded=state.degraded,
    )


def _response(
    decision: Decision, choice: Choice, state: PersonState, *, recommendation_id: str
) -> RecommendationResponse:
    named = {} if choice.model.bundle is None else choice.model.bundle.items
    items = tuple(
        RecommendedItem(
            item_id=item.item_id,
            score=item.score,
            source=item.source,
            reasons=item.reasons,
            name=named[item.item_id].name if item.item_id in named else None,
        )
        for item in decision.items
    )
    return RecommendationResponse(
        recommendation_id=recommendation_id,
        items=items,
        experiment=choice.experiment,
        variant=choice.variant,
        model_version=choice.model.active,
        degraded=decision.degraded or choice.degraded,
        reflects=state.reflects,
    )


def _exposure(asked: RecommendationRequest, answer: RecommendationResponse, *, person: UserId, at_ms: int) -> Message:
    """Return what was shown as an event; its id follows from the recommendation's, so a repeat is the same event."""
    event = Event(
        message_id=MessageId(f"served-{answer.recommendation_id}"),
        type=EventType.TRACK,
        name=RECOMMENDATION_SERVED,
        user_id=asked.user_id,
        anonymous_id=asked.anonymous_id,
        at_ms=at_ms,
        received_ms=at_ms,
        properties={
            "recommendation_id": answer.recommendation_id,
            "items": [
                # Nothing explores yet: the list follows from the state with certainty.
                {"product_id": item.item_id, "position": position, "source": item.source, "propensity": 1.0}
                for position, item in enumerate(answer.items, start=1)
            ],
            "experiment": answer.experiment,
            "variant": answer.variant,
            "model_version": answer.model_version,
            "degraded": answer.degraded,
            "surface": asked.surface,
            "item_id": asked.item_id,
            "context": asked.context,
        },
    )
    return Message(person, event.message_id, event.received_ms, event.to_payload())
