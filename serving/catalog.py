"""The live catalog over HTTP: items are described, changed and taken out while the system runs. A 2xx means durable."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Protocol

import anyio
from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from serving.errors import RequestError
from serving.item_forms import (
    MAX_DAYS,
    MAX_ITEMS,
    MAX_LEVEL_CHARS,
    MAX_LEVELS,
    MAX_NAME_CHARS,
    MAX_PRICE,
    MAX_TEXT_CHARS,
    RefusedItem,
    parse_items,
)
from serving.routes import OrjsonRoute
from serving.schemas import ErrorBody, Id
from storage.control_keys import KeyInfo
from storage.item_changes import ItemChange

WRITE_THREADS = 4
"""Requests that wait together for the control store, which takes one write after the other."""


class ItemWriter(Protocol):
    """Where changes go: the control store."""

    def change_items(self, changes: list[ItemChange], *, by: str, at: datetime) -> int:
        """Put the changes in force; return the catalog's number then."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


Level = Annotated[str, Field(min_length=1, max_length=MAX_LEVEL_CHARS, pattern=r"\S")]


class ItemForm(_Form):
    """One item. Each field may be null, which says that there is none; `available` is true or false."""

    item_id: Id = Field(description="Its id, as events name it.")
    name: str | None = Field(default=None, max_length=MAX_NAME_CHARS, description="What people call it.")
    category: Annotated[list[Level], Field(max_length=MAX_LEVELS)] | None = Field(
        default=None, description="From the broadest to the narrowest; a text such as `DRINKS > TEA` does as well."
    )
    brand: str | None = Field(default=None, max_length=MAX_LEVEL_CHARS)
    price: float | None = Field(default=None, ge=0, le=MAX_PRICE)
    available: bool = Field(default=True, description="Whether it may be recommended.")
    rebuy_after_days: float | None = Field(
        default=None, ge=0, le=MAX_DAYS, description="Not recommended again to whoever bought it within so many days."
    )
    text: str | None = Field(default=None, max_length=MAX_TEXT_CHARS, description="Whatever else describes it.")


def _schema(*, whole: bool) -> dict[str, Any]:
    """Return what a client is told of an item; the parser checks it, field by field."""
    schema = ItemForm.model_json_schema(by_alias=True)
    return schema if whole else {**schema, "minProperties": 2}


class ItemsRequest(_Form):
    """Whole descriptions of items."""

    items: list[Annotated[Any, WithJsonSchema(_schema(whole=True))]] = Field(
        min_length=1, json_schema_extra={"maxItems": MAX_ITEMS}, description="What an item leaves out has no value."
    )


class ItemChangesRequest(_Form):
    """What changed of items."""

    items: list[Annotated[Any, WithJsonSchema(_schema(whole=False))]] = Field(
        min_length=1, json_schema_extra={"maxItems": MAX_ITEMS}, description="What an item leaves out stays as it is."
    )


class RejectedItem(_Form):
    """One item that was refused, and why."""

    index: int = Field(description="Its place in the request, from 0.")
    item_id: str | None
    field: str
    value: str
    allowed: str


class ItemsAccepted(_Form):
    """The valid items of the request are stored."""

    success: bool = True
    accepted: int
    version: int = Field(description="The catalog's number now: it grows with every change of an item.")
    rejected: tuple[RejectedItem, ...] = ()


class ItemsError(ErrorBody):
    """Nothing was stored."""

    rejected: tuple[RejectedItem, ...] = ()


class LiveItems:
    """Checks what is said of items and stores the good part."""

    def __init__(self, items: ItemWriter) -> None:
        self._items = items
        self._waiting = anyio.CapacityLimiter(WRITE_THREADS)

    async def take(self, items: list[Any], *, whole: bool, by: str, at: datetime) -> ItemsAccepted:
        """Store items; when this returns they are durable.

        Args:
            items: decoded JSON values.
            whole: whether they are whole descriptions.
            by: who says it.
            at: the time of the request.

        Raises:
            RequestError: there are too many, or none of them is valid.
            Unavailable: the control store cannot be written now.
        """
        if len(items) > MAX_ITEMS:
            message = f"items: got {len(items)}, expected at most {MAX_ITEMS}; send several requests"
            raise RequestError(413, "too_many_items", message)
        good, refused = parse_items(items, whole=whole)
        if not good:
            raise _nothing_valid(refused)
        change = partial(self._items.change_items, good, by=by, at=at)
        version = await anyio.to_thread.run_sync(change, limiter=self._waiting)
        rejected = tuple(RejectedItem.model_validate(one.to_json()) for one in refused)
        return ItemsAccepted(accepted=len(good), version=version, rejected=rejected)


def catalog_routes(live: LiveItems, *, check_key: Callable[..., Any], time: Callable[..., Any]) -> APIRouter:
    """Return the routes ``PUT`` and ``POST /api/v1/items`` and ``DELETE /api/v1/items/{id}``."""
    router = APIRouter(
        prefix="/api/v1",
        tags=["items"],
        route_class=OrjsonRoute,
        responses={
            status: {"model": ItemsError if status == 400 else ErrorBody}
            for status in (400, 401, 403, 404, 413, 422, 503, 504)
        },
    )
    Key = Annotated[KeyInfo, Depends(check_key)]
    Time = Annotated[datetime, Depends(time)]

    @router.put("/items", summary="Describe items as a whole", response_model=ItemsAccepted)
    async def describe(asked: ItemsRequest, key: Key, at: Time) -> Response:
        return _answer(await live.take(asked.items, whole=True, by=key.key_id, at=at))

    @router.post("/items", summary="Change some fields of items", response_model=ItemsAccepted)
    async def change(asked: ItemChangesRequest, key: Key, at: Time) -> Response:
        return _answer(await live.take(asked.items, whole=False, by=key.key_id, at=at))

    # Ids may hold slashes, which arrive decoded.
    @router.delete("/items/{id:path}", summary="Make an item unavailable", response_model=ItemsAccepted)
    async def withdraw(
        id: Annotated[Id, Path(description="An item id; percent-encoded.")], key: Key, at: Time
    ) -> Response:
        gone = {"itemId": id, "available": False}
        return _answer(await live.take([gone], whole=False, by=key.key_id, at=at))

    return router


def _nothing_valid(refused: list[RefusedItem]) -> RequestError:
    first = refused[0].reason
    message = str(first) if len(refused) == 1 else f"none of {len(refused)} items is valid; the first: {first}"
    return RequestError(400, "invalid_item", message, details={"rejected": [one.to_json() for one in refused]})


def _answer(accepted: ItemsAccepted) -> Response:
    return Response(accepted.model_dump_json(by_alias=True), media_type="application/json")
