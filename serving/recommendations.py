"""Recommendations over HTTP: lists for a person, a session or an item, what is popular, and a list put in order."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Request, Response

from serving.recommendation_forms import (
    AskedForPerson,
    AskedList,
    RankRequest,
    RecommendationRequest,
    RecommendationResponse,
    SessionRequest,
    SimilarRequest,
    TrendingRequest,
)
from serving.recommender import Recommender
from serving.routes import DirectRoute
from serving.schemas import ErrorBody

IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=200,
        description="Requests of one person with the same key are the same recommendation. Without a key a repeated "
        "request is a recommendation of its own, also where the ingress repeats it because a replica died: a client "
        "that needs a repeat to be the same decision sends a key.",
    ),
]

CheckTester = Callable[[Request], Awaitable[Any]]
"""Raises unless the key of a request may choose variants."""


def recommendation_routes(
    recommender: Recommender, *, check_key: Callable[..., Any], check_tester: CheckTester, time: Callable[..., Any]
) -> APIRouter:
    """Return the routes below ``/api/v1/recommendations``.

    Args:
        recommender: answers.
        check_key: lets only good keys pass.
        check_tester: is asked besides where a request chooses its variants.
        time: the time of a request.
    """
    router = APIRouter(
        prefix="/api/v1/recommendations",
        tags=["recommendations"],
        route_class=DirectRoute,
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (400, 401, 403, 413, 422, 429, 503, 504)},
    )

    async def answered(form: AskedList, request: Request, at: datetime, key: str | None) -> Response:
        variants = form.variants if isinstance(form, AskedForPerson) else {}
        if variants:
            await check_tester(request)
        answer = await recommender.answer(form, at=at, request_id=key or str(uuid4()), variants=variants)
        return Response(answer.to_json(), media_type="application/json")

    Time = Annotated[datetime, Depends(time)]

    @router.post("", summary="Recommend items to a person", response_model=RecommendationResponse)
    async def recommendations(
        asked: RecommendationRequest, request: Request, at: Time, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await answered(asked, request, at, idempotency_key)

    @router.post("/similar", summary="Recommend items like one item", response_model=RecommendationResponse)
    async def similar(
        asked: SimilarRequest, request: Request, at: Time, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await answered(asked, request, at, idempotency_key)

    @router.post("/session", summary="Recommend items for what a session did", response_model=RecommendationResponse)
    async def session(
        asked: SessionRequest, request: Request, at: Time, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await answered(asked, request, at, idempotency_key)

    @router.post("/trending", summary="What is popular now", response_model=RecommendationResponse)
    async def trending(
        asked: TrendingRequest, request: Request, at: Time, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await answered(asked, request, at, idempotency_key)

    @router.post("/rank", summary="Put your own items in order", response_model=RecommendationResponse)
    async def rank(asked: RankRequest, request: Request, at: Time, idempotency_key: IdempotencyKey = None) -> Response:
        return await answered(asked, request, at, idempotency_key)

    return router
