"""What a request passes first: foreign headers, ids, and bodies that are deeper than they may be."""

import asyncio
import contextlib
import pickle
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

from serving.admission import Admission
from serving.edge import Limits, add_edge
from serving.errors import RequestError, add_error_handlers
from serving.front import FRONT, REQUEST_ID, Front, prepare
from serving.json_limits import MAX_DEPTH, check_json


def site(**limits: Any) -> httpx.AsyncClient:
    """Return a client of an application that says what it sees."""
    app = FastAPI()

    @app.post("/seen")
    async def seen(request: Request) -> dict[str, str]:
        return dict(request.headers)

    add_error_handlers(app)
    add_edge(app, Limits(max_body_bytes=1_000_000, **limits))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_every_answer_names_its_request() -> None:
    async def run() -> None:
        async with site() as client:
            answers = [await client.post("/seen"), await client.get("/nowhere")]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert len(set(ids)) == 2
        assert answers[0].json()["x-request-id"] == ids[0]

    asyncio.run(run())


@given(st.binary(max_size=80))
def test_clients_id_is_kept_only_where_it_is_harmless(given: bytes) -> None:
    scope = {"type": "http", "headers": [(b"x-request-id", given)]}
    made = prepare(scope)
    assert re.fullmatch(rb"[A-Za-z0-9_-]{1,64}", made)
    assert (made == given) == bool(re.fullmatch(rb"[A-Za-z0-9_-]{1,64}", given))
    assert scope["headers"] == [(b"x-request-id", made)]


@pytest.mark.parametrize(
    "name",
    [
        "x-request-timeout-seconds",
        "x_request_timeout_seconds",
        "x-request-disconnect-disabled",
        "serve_multiplexed_model_id",
        "serve-multiplexed-model-id",
        "x-session-id",
        "x-serve-router-replica",
    ],
)
def test_headers_that_steer_serve_are_taken_away(name: str) -> None:
    scope = {"type": "http", "headers": [(name.encode(), b"0"), (b"accept", b"*/*")]}
    prepare(scope)
    assert [key for key, _ in scope["headers"]] == [b"accept", b"x-request-id"]


def test_every_header_that_serve_reads_is_known_here() -> None:
    from ray.serve._private import constants

    read = {
        value for name, value in vars(constants).items() if name.startswith("SERVE_HTTP_") and name[-6:] == "HEADER"
    }
    read |= {constants.SERVE_MULTIPLEXED_MODEL_ID, constants.SERVE_SESSION_ID}
    scope = {"type": "http", "headers": [(name.encode(), b"?1") for name in read]}
    prepare(scope)
    assert len(read) == 5
    assert [key for key, _ in scope["headers"]] == [b"x-request-id"]


def test_refusal_is_made_before_anything_else_runs() -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("the application ran")

    async def run() -> None:
        front = Front(never, admission=Admission(ceiling=0))
        transport = httpx.ASGITransport(front)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            refused = await client.post("/api/v1/recommendations", json={})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["code"] == "overloaded"
        assert refused.headers["x-request-id"]

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/healthz", "/collect/readyz", "/api/v1/models"])
def test_what_asks_how_a_process_does_is_answered_under_any_load(path: str) -> None:
    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> int:
        transport = httpx.ASGITransport(Front(answers, admission=Admission(ceiling=0)))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return (await client.get(path)).status_code

    assert asyncio.run(run()) == 200


def test_request_is_over_with_its_last_byte() -> None:
    admission, seen = Admission(), []

    async def lingers(scope: Any, receive: Any, send: Any) -> None:
        seen.append(admission.in_flight)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        seen.append(admission.in_flight)
        await send({"type": "http.response.body", "body": b"2"})
        seen.append(admission.in_flight)

    async def run() -> None:
        transport = httpx.ASGITransport(Front(lingers, admission=admission))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/")).text == "12"

    asyncio.run(run())
    assert [*seen, admission.in_flight] == [1, 1, 0, 0]


def test_front_hides_what_is_raised_behind_it() -> None:
    async def fails(*_: Any) -> None:
        raise ValueError("alice" + "@example.org")

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Front(fails)), base_url="http://test") as client:
            answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "alice" not in answer.text

    asyncio.run(run())


def test_scope_that_passed_can_go_to_another_process() -> None:
    scopes: list[Any] = []

    async def keeps(scope: Any, *_: Any) -> None:
        scopes.append(scope)

    async def run() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Front(keeps)), base_url="http://test") as client:
            with contextlib.suppress(AssertionError):  # Nothing was answered.
                await client.get("/")
        there = pickle.loads(pickle.dumps(scopes[0]))
        assert not isinstance(there[FRONT], Front)
        assert there[FRONT] is not None and there[REQUEST_ID] == scopes[0][REQUEST_ID]

    asyncio.run(run())


def nested(depth: int) -> bytes:
    """Return JSON of so many levels, by turns objects and arrays."""
    return b'{"a":[' * (depth // 2) + b"{}" * (depth % 2) + b"]}" * (depth // 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (nested(MAX_DEPTH), 200),
        (nested(MAX_DEPTH + 1), 400),
        (nested(100_000), 400),
        (b"[" * 900_000, 400),
        (b'"' + b"[" * 900_000 + b'"', 200),
        (b'{"a":"' + b'\\"[' * 300_000 + b'"}', 200),
        (b"[" + b"1," * 100 + b"1]", 413),
        (b'["' + b"," * 1_000 + b'"]', 200),
        (b'"' + b'\\"' * 400_000, 200),
    ],
)
def test_depth_and_number_of_values_are_bounded(body: bytes, status: int) -> None:
    async def run() -> None:
        async with site(max_values=100) as client:
            assert (await client.post("/seen", content=body)).status_code == status

    asyncio.run(run())


json_values = st.recursive(
    st.none() | st.text(max_size=5) | st.sampled_from(['"', "[{", "\\"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(json_values)
def test_depth_is_that_of_the_parsed_value(value: Any) -> None:
    import json

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    body, true = json.dumps(value).encode(), depth(value)
    check_json(body, max_depth=true)
    if true > 0:
        with pytest.raises(RequestError, match="deeper"):
            check_json(body, max_depth=true - 1)
