"""An item over HTTP: how the catalog describes it, and its features as of now, as the online store has them."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bespoke.catalog import Item
from bespoke.clock import from_ms, to_ms
from bespoke.events import ItemId
from bespoke.items import ITEM_FEATURES, ItemState
from bespoke.recommend import FEATURES_STALE, FEATURES_UNAVAILABLE
from serving.edge import place_of
from serving.errors import RequestError
from serving.people import READ_TIMEOUT_S
from serving.schemas import ErrorBody, Id

logger = logging.getLogger(__name__)


class StateOfItem(Protocol):
    """An item's state as the online store has it."""

    @property
    def state(self) -> ItemState: ...

    @property
    def stale(self) -> bool: ...


class ItemReader(Protocol):
    """Where items' states are read: :class:`storage.features.items.OnlineItems`."""

    def read(self, item_ids: Sequence[ItemId], *, at_ms: int) -> Mapping[ItemId, StateOfItem]:
        """Return the states of ``item_ids`` as they may be used at ``at_ms``; items without one are absent."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ItemDescription(_Form):
    """How the catalog describes an item."""

    name: str | None
    category: tuple[str, ...] = Field(description="From the broadest to the narrowest.")
    brand: str | None
    price: float | None
    available: bool = Field(description="Whether it may be recommended.")
    rebuy_after_days: float | None = Field(description="Not recommended again within so many days of buying it.")


class ItemResponse(_Form):
    """What is known of an item, and what everybody together does with it, as of the request."""

    item_id: str = Field(description="The item that was asked for.")
    catalog: ItemDescription | None = Field(
        default=None, description="What recommendations know of it; null where no catalog and no model names it."
    )
    as_of: datetime | None = Field(description="When the newest event that is in here was received; null if stale.")
    features: dict[str, float | None] = Field(
        description="By name, in the declared order; null where there is nothing to derive a value from."
    )
    stale: bool = Field(description="Whether nothing was heard of the item for too long; features are null then.")
    degraded: str | None = Field(description="Why this is less than it could be; null where it is not.")


def _nowhere(item_id: ItemId) -> Item | None:
    return None


class Items:
    """Answers what is known of one item."""

    def __init__(
        self,
        items: ItemReader,
        *,
        threads: ThreadPoolExecutor,
        describe: Callable[[ItemId], Item | None] = _nowhere,
    ) -> None:
        """Answer from ``items``, the features, and ``describe``, the catalog that recommendations are made from."""
        self._items, self._threads, self._describe = items, threads, describe

    async def answer(self, item_id: ItemId, *, at: datetime) -> ItemResponse:
        """Return what is known of ``item_id`` as seen at ``at``.

        Raises:
            RequestError: the catalog does not name the item, and nobody ever did anything with it or features cannot be
                read.
        """
        at_ms, item = to_ms(at), self._describe(item_id)
        try:
            found = (await self._read(item_id, at_ms=at_ms)).get(item_id)
        except RequestError:
            if item is None:
                raise
            return _response(item_id, None, item, at_ms=at_ms, degraded=FEATURES_UNAVAILABLE)
        if found is None and item is None:
            raise RequestError(404, "unknown_item", "nobody has done anything with this item yet")
        return _response(item_id, found, item, at_ms=at_ms)

    async def _read(self, item_id: ItemId, *, at_ms: int) -> Mapping[ItemId, StateOfItem]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await loop.run_in_executor(self._threads, lambda: self._items.read([item_id], at_ms=at_ms))
        except Exception as error:
            # Whatever a store or a damaged row raises; the message may hold an address.
            logger.warning("item features cannot be read: %s at %s", type(error).__name__, place_of(error))
            message = "the online features cannot be read now; send the same request again"
            raise RequestError(503, "features_unavailable", message) from error


def item_routes(items: Items, *, check_key: Callable[..., Any], time: Callable[..., Any]) -> APIRouter:
    """Return the route ``GET /api/v1/items/{id}``."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["items"],
        dependencies=[Depends(check_key)],
        responses={status: {"model": ErrorBody} for status in (401, 403, 404, 422, 503, 504)},
    )

    # Ids may hold slashes, which arrive decoded.
    @router.get("/items/{id:path}", summary="What is known of an item", response_model=ItemResponse)
    async def item(
        id: Annotated[Id, Path(description="An item id; percent-encoded.")],
        at: Annotated[datetime, Depends(time)],
    ) -> Response:
        answer = await items.answer(ItemId(id), at=at)
        return Response(answer.model_dump_json(by_alias=True), media_type="application/json")

    return router


def _response(
    item_id: ItemId, found: StateOfItem | None, item: Item | None, *, at_ms: int, degraded: str | None = None
) -> ItemResponse:
    state = None if found is None else found.state
    stale = found is not None and found.stale
    known = None if stale else state
    return ItemResponse(
        item_id=item_id,
        catalog=None if item is None else _description(item),
        as_of=None if state is None or state.received_ms is None else from_ms(state.received_ms),
        features={one.name: None if known is None else _known(one.of(known, at_ms)) for one in ITEM_FEATURES},
        stale=stale,
        degraded=FEATURES_STALE if stale else degraded,
    )


def _description(item: Item) -> ItemDescription:
    return ItemDescription(
        name=item.name,
        category=item.category,
        brand=item.brand,
        price=item.price,
        available=item.available,
        rebuy_after_days=item.rebuy_after_days,
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
