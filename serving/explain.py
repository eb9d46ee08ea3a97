"""Decisions explained over HTTP: one that was served is made again from what was logged, and says how it came about."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bespoke.clock import from_ms
from bespoke.errors import NotFound
from bespoke.events import ItemId
from serving.errors import RequestError
from serving.explaining import NotShown, ShownItem
from serving.replay import NotReplayable, Replay, Replayer
from serving.routes import OrjsonRoute
from serving.schemas import ErrorBody, Id
from storage.decision_log import NotSearched, TooFresh

MAX_ITEMS = 100
SEARCH_S = 3.0
"""So long the lake is looked through; beyond, the day has to be named."""
WAIT_S = 10
"""After about so long what was served is in the lake."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ExplainRequest(_Form):
    """What to tell besides."""

    item_ids: tuple[Id, ...] = Field(
        default=(), max_length=MAX_ITEMS, description="Items of which to say why they are not in the list."
    )
    served_on: date | None = Field(
        default=None, description="The day it was served, in UTC: only days next to it are looked through."
    )


class ExplainedItem(_Form):
    """How one item came to its place. Places count from 1."""

    item_id: str
    position: int
    source: str = Field(description="What put it there, as the answer said.")
    source_ranks: dict[str, int] = Field(description="The place that each source gave it.")
    score: float = Field(description="As the answer had it.")
    model_score: float | None = Field(description="The model's own score; null where the model does not know it.")
    places: dict[str, int] = Field(description="Where it stood after each stage.")
    rules: tuple[str, ...] = Field(description="Business rules and promotions that put or moved it.")
    propensity: float = Field(description="How probable it was that this item would come at this place.")
    reasons: tuple[str, ...]


class ExplainedRule(_Form):
    """What one rule did to the list."""

    rule: str
    items: int = Field(description="How many items it changed.")
    cost: float = Field(description="Model score that the list lost by it.")


class ExplainedAbsence(_Form):
    """Why an item is not in the list."""

    item_id: str
    reason: str = Field(
        description="unknown_item, unavailable, filtered, excluded, not_a_candidate, rule, ranked, or shown if it was."
    )
    detail: str = Field(description="For people.")
    place: int | None = Field(description="Where it stood among all candidates in the end; null where it was none.")
    source_ranks: dict[str, int]


class ExplainResponse(_Form):
    """How a list came about."""

    recommendation_id: str
    served_at: datetime
    identical: bool = Field(description="Whether the decision came out again as it was served.")
    differences: tuple[str, ...] = Field(description="In what it did not.")
    model_version: str | None
    experiment: str | None
    variant: str | None
    pipeline: str
    context: str | None = Field(description="Names the settings, rules and model versions that were in force.")
    catalog_version: int = Field(description="The live catalog's number then.")
    profile_version: int | None = Field(description="Of the person's profile; null where none was read.")
    degraded: str | None
    skipped: tuple[str, ...] = Field(description="Stages and sources that were late or failed.")
    candidates: int
    items: tuple[ExplainedItem, ...]
    removed: dict[str, int] = Field(description="How many items of the whole catalog each filter took away.")
    rules: tuple[ExplainedRule, ...]
    not_shown: tuple[ExplainedAbsence, ...] = Field(description="Of the items that were asked about.")


def explain_routes(replayer: Replayer, *, check_key: Callable[..., Any], threads: ThreadPoolExecutor) -> APIRouter:
    """Return the route ``POST /api/v1/decisions/{recommendationId}/explain``."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["decisions"],
        route_class=OrjsonRoute,
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (400, 401, 403, 404, 409, 410, 413, 422, 503, 504)},
    )

    @router.post(
        "/decisions/{recommendation_id}/explain",
        summary="Make a decision again and say how it came about",
        response_model=ExplainResponse,
    )
    async def explain(
        recommendation_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Of the answer.")],
        asked: ExplainRequest,
    ) -> Response:
        give_up_s = time.monotonic() + SEARCH_S
        replay = partial(
            replayer.replay,
            recommendation_id,
            items=tuple(map(ItemId, asked.item_ids)),
            day=asked.served_on,
            give_up=lambda: time.monotonic() >= give_up_s,
        )
        try:
            made = await asyncio.get_running_loop().run_in_executor(threads, replay)
        except TooFresh as error:
            raise RequestError(409, "not_yet", str(error), headers={"Retry-After": str(WAIT_S)}) from error
        except NotSearched as error:
            message = f"not found so far: {error}; name the day in servedOn"
            raise RequestError(404, "unknown_decision", message) from error
        except NotFound as error:
            message = f"{error}; what was served a moment ago may still be on its way"
            raise RequestError(404, "unknown_decision", message) from error
        except NotReplayable as error:
            raise RequestError(410, "not_replayable", str(error)) from error
        return Response(
            _response(recommendation_id, made).model_dump_json(by_alias=True), media_type="application/json"
        )

    return router


def _response(recommendation_id: str, made: Replay) -> ExplainResponse:
    said, record, told = made.event.properties, made.record, made.explanation
    return ExplainResponse(
        recommendation_id=recommendation_id,
        served_at=from_ms(made.event.at_ms),
        identical=made.identical,
        differences=made.differences,
        model_version=said.get("model_version"),
        experiment=said.get("experiment"),
        variant=said.get("variant"),
        pipeline=record.pipeline,
        context=record.context,
        catalog_version=record.catalog_seq,
        profile_version=record.profile_version,
        degraded=said.get("degraded"),
        skipped=record.skipped,
        candidates=told.candidates,
        items=tuple(map(_item, told.items)),
        removed=dict(told.removed),
        rules=tuple(ExplainedRule(rule=rule, items=items, cost=cost) for rule, items, cost in told.rules),
        not_shown=tuple(map(_absence, told.not_shown)),
    )


def _item(item: ShownItem) -> ExplainedItem:
    return ExplainedItem(
        item_id=item.item_id,
        position=item.position,
        source=item.source,
        source_ranks=dict(item.source_ranks),
        score=item.score,
        model_score=item.model_score,
        places=dict(item.places),
        rules=item.rules,
        propensity=item.propensity,
        reasons=item.reasons,
    )


def _absence(one: NotShown) -> ExplainedAbsence:
    return ExplainedAbsence(
        item_id=one.item_id,
        reason=one.reason,
        detail=one.detail,
        place=one.place,
        source_ranks=dict(one.source_ranks),
    )
