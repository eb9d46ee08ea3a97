"""Every route names the scope of its key, and opens to no other."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import SystemClock
from serving.applications import create_collector, create_recommender
from serving.openapi import SCOPE, scopes_of
from storage.control import ControlStore, Scope
from storage.settings import Settings

PUBLIC = {"/healthz", "/readyz"}
"""Operations that need no key. A new route in here is a decision."""
PUBLIC_PAGES = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
"""What the framework adds beside the operations: the document and its readers."""
MADE = {"collector": create_collector, "recommender": create_recommender}


@pytest.fixture(params=MADE)
def app(request: pytest.FixtureRequest, settings: Settings) -> FastAPI:
    """Return one application after the other; its lifespan is not run: no route is reached."""
    made: FastAPI = MADE[request.param](settings)
    return made


@pytest.fixture
def client(app: FastAPI) -> Iterator[Callable[..., httpx.Response]]:
    """Return what sends one request to the application."""
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:

        async def send(method: str, path: str, auth: tuple[str, str] | None) -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test", auth=auth) as client:
                return await client.request(method, path)

        yield lambda *arguments: portal.call(send, *arguments)


class Visitors:
    """Keys that must not open a route of some scope."""

    def __init__(self, settings: Settings) -> None:
        self.control, self.now = ControlStore(settings.control_url), SystemClock().now()

    def key(self, scopes: list[str], *, made: datetime | None = None, **limits: Any) -> tuple[str, str]:
        """Return the id and the secret of a new key."""
        info, secret = self.control.create_key("visitor", scopes, made or self.now, **limits)
        return info.key_id, secret

    def of(self, scope: str) -> dict[str, tuple[str | None, int]]:
        """Return keys by what is wrong with them, each with the status that it deserves."""
        others = [other for other in Scope if other != scope]
        revoked_id, revoked = self.key([scope])
        self.control.revoke_key(revoked_id, self.now)
        past = self.now - timedelta(days=2)
        return {
            "none": (None, 401),
            "unknown": ("bespoke_000000000000_" + "A" * 43, 401),
            "wrong scope": (self.key([*others])[1], 403),
            "revoked": (revoked, 401),
            "expired": (self.key([scope], made=past, expires_at=past + timedelta(days=1))[1], 401),
        }


def operations(app: FastAPI) -> list[tuple[str, str, str | None]]:
    """Return path, method and scope of every operation of the document."""
    return [
        (path, method, operation.get(SCOPE))
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]


def test_only_probes_need_no_key(app: FastAPI) -> None:
    assert {path for path, _, scope in operations(app) if scope is None} == PUBLIC
    assert sorted(operations(app), key=str) == sorted(scopes_of(app), key=str)
    pages = {path for route in app.routes if (path := getattr(route, "path", None)) is not None}
    assert pages == PUBLIC_PAGES


def test_every_operation_says_in_the_document_which_key_it_needs(app: FastAPI) -> None:
    document = app.openapi()
    assert set(document["components"]["securitySchemes"]) == {"basic", "bearer"}
    for path, method, scope in operations(app):
        operation = document["paths"][path][method]
        if scope is not None:
            assert scope in set(Scope)
            assert operation["security"] == [{"basic": []}, {"bearer": []}]
            assert f"`{scope}`" in operation["description"]
            assert {"401", "403", "429"} <= operation["responses"].keys()


def test_no_route_opens_to_a_key_that_it_should_not(
    app: FastAPI, settings: Settings, client: Callable[..., httpx.Response]
) -> None:
    visitors = Visitors(settings)
    of = {scope: visitors.of(scope) for scope in {scope for _, _, scope in operations(app) if scope}}
    for path, method, scope in operations(app):
        for what, (secret, status) in of.get(scope or "", {}).items():
            auth = None if secret is None else (secret, "")
            answer = client(method, path.replace("{", "").replace("}", ""), auth)
            assert answer.status_code == status, (method, path, what, answer.text)
            assert answer.json()["success"] is False
            assert (status == 401) == ("www-authenticate" in answer.headers)


def test_public_routes_answer_anybody(app: FastAPI, client: Callable[..., httpx.Response]) -> None:
    # Readiness looks at the stores, which takes a lifespan.
    for path in PUBLIC_PAGES | PUBLIC - {"/readyz"}:
        assert client("GET", path, None).status_code in (200, 503)
