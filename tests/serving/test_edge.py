"""The edge in front of every route: limits, timeouts, errors without internals."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI, Request

from bespoke.errors import BespokeError, BundleError, ConfigError, NotFound, TrainingError, Unavailable
from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers
from serving.metrics import Metrics

LIMITS = Limits(max_body_bytes=1_000, max_in_flight=2, timeout_s=30.0)


class Site:
    """An application behind the edge, whose ``/wait`` answers when it is let go."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.app = FastAPI()
        self.arrived, self.let_go = asyncio.Semaphore(0), asyncio.Event()
        self.app.post("/size")(self.size)
        self.app.get("/wait")(self.wait)
        self.app.get("/fail")(self.fail)
        self.app.get("/healthz")(self.healthz)
        add_error_handlers(self.app)
        add_edge(self.app, limits)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://test")

    async def size(self, request: Request) -> int:
        return len(await request.body())

    async def wait(self) -> str:
        self.arrived.release()
        await self.let_go.wait()
        return "done"

    async def fail(self) -> None:
        raise ValueError("alice" + "@example.org")

    async def healthz(self) -> str:
        return "ok"


def test_body_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    async def run() -> None:
        site = Site()
        assert (await site.client.post("/size", content=b"x" * 1_000)).json() == 1_000
        refused = await site.client.post("/size", content=b"x" * 1_001)
        assert refused.status_code == 413
        assert refused.json()["code"] == "too_large"

    asyncio.run(run())


def test_body_without_a_length_is_cut_off_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    async def run() -> None:
        assert (await Site().client.post("/size", content=endless())).status_code == 413

    asyncio.run(run())


def test_gzip_reaches_the_route_as_plain_bytes() -> None:
    async def run() -> None:
        body = gzip.compress(b"x" * 900)
        answer = await Site().client.post("/size", content=body, headers={"Content-Encoding": "gzip"})
        assert answer.json() == 900

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b"x" * 5_000_000)[:900], "gzip", 413),
        (gzip.compress(b"x" * 1_001), "gzip", 413),
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"x" * 900)[:-4], "gzip", 400),
        (gzip.compress(b"x") + b"more", "gzip", 400),
        (b"x", "br", 415),
    ],
)
def test_bad_encodings_are_refused_with_a_reason(body: bytes, encoding: str, status: int) -> None:
    async def run() -> None:
        answer = await Site().client.post("/size", content=body, headers={"Content-Encoding": encoding})
        assert answer.status_code == status
        assert answer.json()["message"]

    asyncio.run(run())


def test_requests_past_the_limit_get_503_and_probes_pass() -> None:
    async def run() -> None:
        site = Site()
        waiting = [asyncio.create_task(site.client.get("/wait")) for _ in range(LIMITS.max_in_flight)]
        for _ in waiting:
            await site.arrived.acquire()
        refused = await site.client.get("/wait")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert (await site.client.get("/healthz")).status_code == 200
        site.let_go.set()
        assert [(await task).json() for task in waiting] == ["done", "done"]
        assert (await site.client.get("/wait")).json() == "done"

    asyncio.run(run())


def test_slow_request_gets_504() -> None:
    async def run() -> None:
        answer = await Site(replace(LIMITS, timeout_s=0.05)).client.get("/wait")
        assert answer.status_code == 504
        assert answer.json()["code"] == "timeout"

    asyncio.run(run())


def test_error_shows_no_internals_in_the_answer_or_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        with caplog.at_level(logging.INFO):
            answer = await Site().client.get("/fail")
        assert answer.status_code == 500
        assert "alice" not in answer.text and "ValueError" not in answer.text
        assert "ValueError" in caplog.text and "alice@" not in caplog.text

    asyncio.run(run())


def test_unknown_path_answers_in_the_one_form() -> None:
    async def run() -> None:
        answer = await Site().client.get("/nowhere")
        assert answer.status_code == 404
        assert answer.json() == {"success": False, "code": "not_found", "message": "Not Found"}

    asyncio.run(run())


SECRET = "postgresql://bespoke:secret@db/alice"


@pytest.mark.parametrize(
    "kind",
    [BespokeError, ConfigError, BundleError, TrainingError, NotFound, Unavailable, ValueError, KeyError, OSError],
)
def test_no_error_of_ours_or_of_others_shows_its_text(kind: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    async def fails(person: str) -> None:
        raise kind(SECRET)

    async def run() -> None:
        app = FastAPI()
        app.get("/people/{person}")(fails)
        add_error_handlers(app)
        add_edge(app, LIMITS)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answer = await client.get("/people/alice")
        assert answer.status_code == (503 if kind is Unavailable else 500)
        assert answer.json()["success"] is False
        assert ("retry-after" in answer.headers) == (answer.status_code == 503)
        assert "secret" not in answer.text and "alice" not in answer.text and kind.__name__ not in answer.text

    with caplog.at_level(logging.DEBUG):
        asyncio.run(run())
    # httpx, the test's own client, tells what it asked for.
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("serving")]
    assert any("/people/{person}" in line for line in logged)
    assert not any("secret" in line or "alice" in line for line in logged)


def test_compressed_request_is_known_by_its_route_too() -> None:
    async def run() -> None:
        metrics = Metrics("test")
        app = FastAPI()

        @app.post("/people/{person}")
        async def take(person: str, request: Request) -> int:
            return len(await request.body())

        add_edge(app, LIMITS, metrics=metrics)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            body = gzip.compress(b"x" * 10)
            assert (await client.post("/people/alice", content=body, headers={"Content-Encoding": "gzip"})).json() == 10
        assert b'route="/people/{person}",status="200"} 1.0' in metrics.scrape()

    asyncio.run(run())
