"""A direct route answers as the framework's own route does, whatever is sent."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import httpx
import orjson
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.routing import APIRoute

from serving.errors import RequestError, add_error_handlers
from serving.routes import DirectRoute, OrjsonRoute
from serving.schemas import Form, Id

GOOD = b'{"userId": "u", "numResults": 3}'
JSON = {"Content-Type": "application/json"}


class Asked(Form):
    """A small form."""

    user_id: Id
    num_results: int = 10


async def checked(request: Request) -> None:
    if request.headers.get("authorization") == "bad":
        raise RequestError(401, "unauthorized", "no")


async def named(time: Annotated[str | None, Header(alias="X-Time", max_length=10)] = None) -> str:
    if time == "never":
        raise RequestError(400, "invalid_time", "no")
    return time or "now"


def routes(route_class: type[APIRoute]) -> APIRouter:
    router = APIRouter(prefix="/lists", route_class=route_class, dependencies=[Depends(checked)])

    @router.post("")
    async def answer(
        asked: Asked,
        request: Request,
        at: Annotated[str, Depends(named)],
        idempotency_key: Annotated[str | None, Header(max_length=5)] = None,
    ) -> Response:
        said = [asked.user_id, asked.num_results, at, idempotency_key, request.method]
        return Response(orjson.dumps(said), status_code=201, media_type="application/json")

    return router


def app_of(route_class: type[APIRoute]) -> FastAPI:
    app = FastAPI()
    app.include_router(routes(route_class), prefix="/v1")
    add_error_handlers(app)
    return app


def answer_of(route_class: type[APIRoute], content: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(route_class)), base_url="http://test"
        ) as client:
            return await client.post("/v1/lists", content=content, headers=headers)

    answer = asyncio.run(asked())
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (GOOD, JSON),
        (GOOD, {"Content-Type": "application/json; charset=utf-8"}),
        (GOOD, {"Content-Type": "application/vnd.bespoke+json"}),
        (GOOD, {"Content-Type": "text/plain"}),
        (GOOD, {}),
        (GOOD, JSON | {"X-Time": "then", "Idempotency-Key": "key"}),
        (GOOD, JSON | {"X-Time": "never"}),
        (GOOD, JSON | {"X-Time": "much too long", "Idempotency-Key": "much too long"}),
        (GOOD, JSON | {"Authorization": "bad", "X-Time": "never"}),
        (b"", JSON),
        (b"{", JSON),
        (b"NaN", JSON),
        (b"null", JSON),
        (b"[]", JSON),
        (b'"u"', JSON),
        (b"{}", JSON),
        (b'{"userId": "", "numResults": "many", "else": 1}', JSON),
        (b'{"userId": ""}', JSON | {"Authorization": "bad"}),
        (b'{"userId": ""}', JSON | {"X-Time": "never"}),
        (b'{"userId": ""}', JSON | {"X-Time": "much too long"}),
    ],
)
def test_both_say_the_same(content: bytes, headers: Mapping[str, str]) -> None:
    assert answer_of(DirectRoute, content, headers) == answer_of(OrjsonRoute, content, headers)


def test_both_are_described_alike() -> None:
    assert app_of(DirectRoute).openapi() == app_of(OrjsonRoute).openapi()


def test_a_route_that_takes_anything_else_cannot_be_direct() -> None:
    router = APIRouter(route_class=DirectRoute)

    async def paged(page: int) -> Response:
        return Response()

    with pytest.raises(AssertionError, match="only headers and one body"):
        router.post("/pages")(paged)
