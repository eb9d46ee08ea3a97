"""A person's profile over HTTP: features as of now, traits and segments, as the online store has them."""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any, Protocol

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.routing import APIRoute

from bespoke.clock import from_ms, to_ms
from bespoke.errors import Unavailable
from bespoke.events import UserId
from bespoke.features import FEATURES, Reading, Value
from bespoke.recommend import FEATURES_STALE
from serving.edge import place_of
from serving.errors import RETRY_AFTER, RequestError, error_response
from serving.people import READ_TIMEOUT_S, FeatureReader, OnlineState, PeopleReader
from serving.schemas import ErrorBody, ProfileResponse, RawId
from serving.tokens import MAX_TOKEN_CHARS, from_token

logger = logging.getLogger(__name__)

SERVICE = "profile"
"""The feature service that carries the whole state."""


class WholeState(OnlineState, Protocol):
    """A profile as the online store has it, with what stands beside it."""

    @property
    def version(self) -> int: ...

    @property
    def segments(self) -> tuple[str, ...]: ...


class ProfileReader(FeatureReader, Protocol):
    """Where whole profiles are read: :class:`storage.features.OnlineFeatures`."""

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, WholeState]:
        """Return the profiles of ``user_ids`` as they may be used at ``at_ms``; people without one are absent."""


class Profiles:
    """Answers what is known of one person."""

    def __init__(self, features: ProfileReader, people: PeopleReader, *, threads: ThreadPoolExecutor) -> None:
        self._features = features
        self._people = people
        self._threads = threads

    async def answer(self, user_id: UserId, *, after: str | None, at: datetime) -> ProfileResponse:
        """Return the profile of ``user_id`` as seen at ``at``.

        Args:
            user_id: the raw id.
            after: token of events that the profile has to reflect.
            at: the time of the request.

        Raises:
            RequestError: ``after`` is no token, nothing is known of the person, or features cannot be read.
        """
        token = None if after is None else from_token(after)
        # Without a service nothing is read: this waits for the events of the token.
        waited = await self._people.read(user_id, service=None, after=token, at_ms=to_ms(at))
        found = (await self._read(user_id, at_ms=to_ms(at))).get(user_id)
        if found is None:
            message = "nothing is known of this person"
            raise RequestError(404, "unknown_person", message, details={"reflects": waited.reflects})
        return _response(user_id, found, at_ms=to_ms(at), reflects=waited.reflects)

    async def _read(self, user_id: UserId, *, at_ms: int) -> Mapping[UserId, WholeState]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await loop.run_in_executor(
                    self._threads, lambda: self._features.read([user_id], service=SERVICE, at_ms=at_ms)
                )
        except Exception as error:
            # Whatever a store or a damaged row raises; the message may hold personal data.
            logger.warning("features cannot be read: %s at %s", type(error).__name__, place_of(error))
            message = "the online features cannot be read now; send the same request again"
            raise RequestError(503, "features_unavailable", message) from error


class _UnnamedRoute(APIRoute):
    """Answers 503 itself where a store is away: elsewhere the path is logged then, and here it names a person."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Unavailable as error:
                logger.warning("profiles: a store is unavailable: %s", type(error.__cause__).__name__)
                message = "a store cannot be reached now; send the same request again"
                return error_response(503, "unavailable", message, headers=RETRY_AFTER)

        return handle


def profile_routes(profiles: Profiles, *, check_key: Callable[..., Any], time: Callable[..., Any]) -> APIRouter:
    """Return the route ``GET /api/v1/profiles/{id}``."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["profiles"],
        route_class=_UnnamedRoute,
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (401, 403, 404, 422, 503, 504)},
    )

    # Ids may hold slashes, which arrive decoded.
    @router.get("/profiles/{id:path}", summary="What is known of a person", response_model=ProfileResponse)
    async def profile(
        id: Annotated[RawId, Path(description="A user id, or `anonymous:` and an anonymous id; percent-encoded.")],
        at: Annotated[datetime, Depends(time)],
        after: Annotated[
            str | None,
            Query(
                max_length=MAX_TOKEN_CHARS,
                description="Token of a /collect answer whose events the profile has to reflect.",
            ),
        ] = None,
    ) -> Response:
        answer = await profiles.answer(UserId(id), after=after, at=at)
        return Response(answer.model_dump_json(by_alias=True), media_type="application/json")

    return router


def _response(user_id: UserId, state: WholeState, *, at_ms: int, reflects: bool | None) -> ProfileResponse:
    profile = state.profile
    reading = Reading(profile, at_ms)
    return ProfileResponse(
        user_id=user_id,
        as_of=None if profile.received_ms is None else from_ms(profile.received_ms),
        # Of somebody whose state is too old nothing is derived: zeros would say that nothing was ever done.
        features={one.name: None if state.stale else _known(one.of(reading)) for one in FEATURES},
        traits={name: orjson.loads(trait.value_json) for name, trait in sorted(profile.traits.items())},
        segments=state.segments,
        version=state.version,
        reflects=reflects,
        stale=state.stale,
        degraded=FEATURES_STALE if state.stale else None,
    )


def _known(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
