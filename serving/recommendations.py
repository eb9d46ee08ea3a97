"""Recommendations over HTTP: one request is one read of the person's state and one ranking, in this process."""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header

from bespoke.clock import to_ms
from bespoke.events import RECOMMENDATION_SERVED, Event, EventType, ItemId, MessageId, UserId, person_id
from bespoke.models.base import History
from bespoke.models.bundle import Bundle
from bespoke.profiles import EMPTY
from serving.edge import place_of
from serving.exposures import ExposureWriter
from serving.people import PeopleReader, PersonState
from serving.routes import OrjsonRoute
from serving.schemas import ErrorBody, RecommendationRequest, RecommendationResponse, RecommendedItem
from serving.snapshot import Choice, Snapshot, reference
from serving.tokens import from_token
from storage.eventlog import Message

logger = logging.getLogger(__name__)

SCORE_THREADS = 4


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

    async def recommend(
        self, request: RecommendationRequest, *, at: datetime, request_id: str
    ) -> RecommendationResponse:
        """Answer one request; where a model or a store is missing the answer says so in ``degraded``.

        Args:
            request: who asks for what.
            at: the time of the request.
            request_id: the same id and person give the same recommendationId.

        Raises:
            RequestError: ``after`` is no token.
        """
        after = None if request.after is None else from_token(request.after)
        person = person_id(request.user_id, request.anonymous_id)
        choice = self._snapshot().choose(person)
        service = choice.bundle.manifest.feature_service if choice.bundle else None
        state = await self._people.read(person, service=service, after=after)
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            self._threads,
            lambda: _ranked(request, choice, state, person=person, at_ms=to_ms(at), request_id=request_id),
        )
        self._exposures.put(_exposure(request, answer, person=person, at_ms=to_ms(at)))
        return answer
