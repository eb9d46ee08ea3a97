"""The edge in front of every route: limits, timeouts, errors without internals."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers

LIMITS = Limits(max_body_bytes=1_000, max_in_flight=2, timeout_s=0.2)


class Site:
    """An application behind the edge, whose ``/wait`` answers when it is let go."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.arrived, self.let_go = asyncio.Semaphore(0), asyncio.Event()
        self.app.post("/size")(self.size)
        self.app.get("/wait")(self.wait)
        self.app.get("/fail")(self.fail)
        self.app.get("/healthz")(self.healthz)
        add_error_handlers(self.app)
        add_edge(self.app, LIMITS)
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
        answer = await Site().client.get("/wait")
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
