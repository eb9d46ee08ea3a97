"""Direct routes answer as the framework's own do, also where a request is not in order."""

import asyncio
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from pydantic import BaseModel, Field

from bespoke.errors import Unauthorized
from serving.errors import add_error_handlers
from serving.routes import DirectRoute, OrjsonRoute

JSON = {"content-type": "application/json"}


class Asked(BaseModel):
    """A body."""

    number: int = Field(ge=0)


def site(route: type[OrjsonRoute | DirectRoute], called: list[str]) -> FastAPI:
    """Return an application with one route, which notes what of it was called."""

    async def check(request: Request) -> None:
        called.append("check")
        if "key" not in request.headers:
            raise Unauthorized("no key")

    async def name(x_name: Annotated[str | None, Header(max_length=5)] = None) -> str:
        called.append("name")
        return x_name or "nobody"

    router = APIRouter(route_class=route, dependencies=[Depends(check)])

    @router.post("/double")
    async def double(
        asked: Asked, request: Request, name: Annotated[str, Depends(name)], tag: Annotated[str, Header()] = "none"
    ) -> Response:
        called.append("endpoint")
        return Response(f"{name} {tag} {2 * asked.number}")

    app = FastAPI()
    app.include_router(router)
    add_error_handlers(app)
    return app


async def post(app: FastAPI, **sent: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        return await client.post("/double", **sent)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        (JSON | {"key": "k"}, b'{"number": 2}', 200),
        (JSON | {"key": "k", "x-name": "ann", "tag": "t"}, b'{"number": 2}', 200),
        ({"key": "k", "content-type": "application/json; charset=utf-8"}, b'{"number": 2}', 200),
        ({"key": "k", "content-type": "text/plain"}, b'{"number": 2}', 422),
        (JSON | {"key": "k"}, b'{"number": -2}', 422),
        (JSON | {"key": "k"}, b"{", 400),
        (JSON | {"key": "k"}, b"", 422),
        (JSON | {"key": "k", "x-name": "too long"}, b'{"number": 2}', 422),
        (JSON, b'{"number": 2}', 401),
        (JSON, b'{"number": -2}', 401),
    ],
)
def test_direct_route_answers_and_calls_as_the_framework_does(
    headers: dict[str, str], content: bytes, status: int
) -> None:
    general, direct = list[str](), list[str]()
    expected = asyncio.run(post(site(OrjsonRoute, general), headers=headers, content=content))
    answer = asyncio.run(post(site(DirectRoute, direct), headers=headers, content=content))
    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert (answer.status_code, direct) == (status, general)


def test_direct_route_heeds_what_stands_in_for_a_dependency() -> None:
    called: list[str] = []
    app = site(DirectRoute, called)
    check = app.routes[-1].original_router.routes[0].dependant.dependencies[0].call  # type: ignore[attr-defined]
    app.dependency_overrides[check] = lambda: None
    assert asyncio.run(post(app, headers=JSON, content=b'{"number": 2}')).status_code == 200
    assert called == ["name", "endpoint"]


def test_route_that_asks_for_more_goes_the_general_way() -> None:
    router = APIRouter(route_class=DirectRoute)

    @router.post("/double")
    async def double(asked: Asked, factor: int) -> int:
        return factor * asked.number

    app = FastAPI()
    app.include_router(router)
    answer = asyncio.run(post(app, json={"number": 2}, params={"factor": 3}))
    assert answer.json() == 6
