"""Probes: open to everybody, so they are cheap to answer."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
from fastapi import FastAPI

from serving.health import FRESH_S, health_routes
from serving.schemas import Readiness

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]


def test_stores_are_looked_at_once_a_second_at_most(client_of: ClientOf) -> None:
    looks, now_s = [], [100.0]

    def look() -> Readiness:
        looks.append(now_s[0])
        return Readiness(ready=True, lacks=(f"look {len(looks)}",))

    app = FastAPI()
    app.include_router(health_routes(look, monotonic=lambda: now_s[0]))
    with client_of(app) as client:
        said = [client.get("/readyz").json()["lacks"] for _ in range(3)]
        now_s[0] += FRESH_S
        said.append(client.get("/readyz").json()["lacks"])
    assert said == [["look 1"], ["look 1"], ["look 1"], ["look 2"]]
