"""Events over HTTP: good ones are durable when the answer comes, bad ones get a reason, nothing is half stored."""

import gzip
import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import from_ms
from bespoke.events import Event, EventType
from serving.applications import create_collector
from serving.tokens import from_token
from storage.control import ControlStore
from storage.settings import Settings

Stored = Callable[[], list[Event]]
ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]


def view(message_id: str = "m1", **changes: Any) -> dict[str, Any]:
    """Return a valid message, with ``changes``; a change to None leaves the field out."""
    properties = {"product_id": "p1"}
    message = {"type": "track", "event": "Product Viewed", "userId": "u1", "messageId": message_id}
    changed = {**message, "properties": properties, **changes}
    return {name: value for name, value in changed.items() if value is not None}


MESSAGES: dict[EventType, dict[str, Any]] = {
    EventType.TRACK: {"userId": "u1", "messageId": "m", "event": "Product Viewed", "properties": {"product_id": "p"}},
    EventType.IDENTIFY: {"userId": "u1", "messageId": "m", "traits": {"plan": "pro"}},
    EventType.PAGE: {"anonymousId": "a1", "messageId": "m", "name": "Home"},
    EventType.SCREEN: {"anonymousId": "a1", "messageId": "m", "name": "Home"},
    EventType.GROUP: {"userId": "u1", "messageId": "m", "groupId": "g1", "traits": {"size": 3}},
    EventType.ALIAS: {"userId": "u1", "messageId": "m", "previousId": "a1"},
}


@pytest.mark.parametrize("kind", EventType)
def test_each_route_takes_its_message(collector: httpx.Client, stored: Stored, kind: EventType) -> None:
    answer = collector.post(f"/v1/{kind}", json=MESSAGES[kind])
    assert answer.status_code == 200
    assert answer.json()["success"] is True
    assert answer.json()["accepted"] == 1
    assert [event.type for event in stored()] == [kind]


def test_token_names_where_the_events_lie(collector: httpx.Client, settings: Settings, stored: Stored) -> None:
    messages = [view(f"m{n}", userId=f"u{n}") for n in range(50)]
    token = collector.post("/v1/batch", json={"batch": messages}).json()["token"]
    assert sum(offset + 1 for offset in from_token(token).values()) == len(stored()) == 50


def test_mixed_batch_keeps_the_valid_and_reports_the_rest(collector: httpx.Client, stored: Stored) -> None:
    batch = [view("m1"), view("m2", type="no such type"), view("m3", userId=None), "text", view("m5")]
    answer = collector.post("/v1/batch", json={"batch": batch})
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    reasons = {rejected["index"]: rejected for rejected in answer.json()["rejected"]}
    assert {index: reason["field"] for index, reason in reasons.items()} == {1: "type", 2: "userId", 3: "message"}
    assert reasons[1]["messageId"] == "m2"
    assert reasons[1]["value"] == "'no such type'"
    assert reasons[1]["allowed"].startswith("one of track")
    assert sorted(event.message_id for event in stored()) == ["m1", "m5"]


BAD = {
    "unknown type": view(type="teleport"),
    "no person": view(userId=None),
    "empty user id": view(userId=" "),
    "no messageId": view(messageId=None),
    "no event name": view(event=None),
    "no product": view(properties={}),
    "future": view(timestamp="2026-03-01T13:00:00Z"),
    "ancient": view(timestamp="2025-03-01T12:00:00Z"),
    "no time": view(timestamp="yesterday"),
    "negative quantity": view(properties={"product_id": "p1", "quantity": -1}),
    "too large": view(properties={"product_id": "p1", "text": "x" * 33_000}),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_bad_event_gets_400_with_the_reason_and_nothing_is_stored(
    collector: httpx.Client, stored: Stored, message: dict[str, Any]
) -> None:
    answer = collector.post("/v1/batch", json={"batch": [message]})
    assert answer.status_code == 400
    body = answer.json()
    assert body["success"] is False
    assert body["code"] == "invalid_event"
    assert body["message"]
    assert {"index", "messageId", "field", "value", "allowed"} == set(body["rejected"][0])
    assert stored() == []


BAD_BODIES = {
    "malformed": (b'{"batch": [', 400),
    "NaN": (json.dumps({"batch": [view(properties={"product_id": "p1", "price": float("nan")})]}).encode(), 400),
    "infinity": (json.dumps({"batch": [view(), view(properties={"x": float("inf")})]}).encode(), 400),
    "not UTF-8": (b'{"batch": ["\xff"]}', 400),
    "half a surrogate": (b'{"batch": ["\\ud800"]}', 400),
    "nested too deep": (b'{"batch":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "empty": (b"", 400),
    "a list": (b"[]", 400),
    "no batch": (b"{}", 400),
    "empty batch": (b'{"batch": []}', 400),
    "10,000 events": (json.dumps({"batch": [{"a": 1}] * 10_000}).encode(), 413),
    "5 MB": (json.dumps({"batch": [view(properties={"text": "x" * 5_000_000})]}).encode(), 413),
    "5 MB of valid events": (json.dumps({"batch": [view(f"m{n}") for n in range(40_000)]}).encode(), 413),
}


@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_body_gets_a_clear_4xx_and_nothing_is_stored(
    collector: httpx.Client, stored: Stored, body: bytes, status: int
) -> None:
    answer = collector.post("/v1/batch", content=body)
    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert answer.json()["code"] and answer.json()["message"]
    assert stored() == []


def test_largest_batch_is_taken_whole(collector: httpx.Client, stored: Stored) -> None:
    batch = [view(f"m{n}", userId=f"u{n}") for n in range(1_000)]
    assert collector.post("/v1/batch", json={"batch": batch}).json()["accepted"] == 1_000
    assert {event.message_id for event in stored()} == {f"m{n}" for n in range(1_000)}


def test_repeated_ids_are_acknowledged_again(collector: httpx.Client, stored: Stored) -> None:
    for _ in range(2):
        assert collector.post("/v1/batch", json={"batch": [view("m1")]}).status_code == 200
    assert {event.message_id for event in stored()} == {"m1"}


def test_gzip_batch_is_taken(collector: httpx.Client, stored: Stored) -> None:
    body = gzip.compress(json.dumps({"batch": [view()]}).encode())
    answer = collector.post("/v1/batch", content=body, headers={"Content-Encoding": "gzip"})
    assert answer.json()["accepted"] == 1
    assert len(stored()) == 1


def test_gzip_bomb_is_refused(collector: httpx.Client, stored: Stored) -> None:
    body = gzip.compress(json.dumps({"batch": [view(properties={"x": "0" * 50_000_000})]}).encode())
    assert collector.post("/v1/batch", content=body, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert stored() == []


def test_sender_clock_is_corrected_by_the_batch_sent_at(collector: httpx.Client, stored: Stored, now: datetime) -> None:
    happened, sent = now - timedelta(hours=3, minutes=5), now - timedelta(hours=3)
    message = view(timestamp=happened.isoformat())
    collector.post("/v1/batch", json={"batch": [message], "sentAt": sent.isoformat()})
    assert from_ms(stored()[0].at_ms) == now - timedelta(minutes=5)


def test_batch_context_reaches_every_message_under_its_own(collector: httpx.Client, stored: Stored) -> None:
    batch = [view("m1"), view("m2", context={"locale": "fr"})]
    collector.post("/v1/batch", json={"batch": batch, "context": {"locale": "de", "ip": "::"}})
    contexts = {event.message_id: event.context for event in stored()}
    assert contexts == {"m1": {"locale": "de", "ip": "::"}, "m2": {"locale": "fr", "ip": "::"}}


@pytest.mark.parametrize("secret", [None, "", "wrong", "wrong\u00e9"])
def test_without_a_good_key_nothing_is_taken(collector: httpx.Client, stored: Stored, secret: str | None) -> None:
    auth = httpx.Auth() if secret is None else httpx.BasicAuth(secret.encode(), b"")
    answer = collector.post("/v1/track", json=view(), auth=auth)
    assert answer.status_code == 401
    assert answer.json()["code"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert stored() == []


def test_key_of_another_scope_is_forbidden(collector: httpx.Client, new_key: Callable[[str], str]) -> None:
    collector.auth = (new_key("recommend"), "")
    assert collector.post("/v1/track", json=view()).status_code == 403


def test_revoked_key_stops_working(settings: Settings, client_of: ClientOf, now: datetime) -> None:
    with ControlStore(settings.control_url) as control:
        info, secret = control.create_key("shop", ["ingest"], now)
        control.revoke_key(info.key_id, now)
    with client_of(create_collector(settings)) as client:
        assert client.post("/v1/track", json=view(), auth=(secret, "")).status_code == 401


def test_time_header_counts_in_a_replay_only(
    settings: Settings, client_of: ClientOf, write_key: str, stored: Stored
) -> None:
    headers = {"X-Bespoke-Time": "2017-06-01T10:00:00Z"}
    replayed = settings.model_copy(update={"replay": True})
    for message_id, installation in (("replayed", replayed), ("live", settings)):
        with client_of(create_collector(installation)) as client:
            client.post("/v1/track", json=view(message_id), headers=headers, auth=(write_key, ""))
    years = {str(event.message_id): from_ms(event.received_ms).year for event in stored()}
    assert years["replayed"] == 2017
    assert years["live"] > 2017


def test_log_out_of_reach_means_503_and_try_again(settings: Settings, client_of: ClientOf, write_key: str) -> None:
    with client_of(create_collector(settings)) as client:
        with sqlite3.connect(settings.log_url.removeprefix("sqlite:///")) as log:
            log.execute("DROP TABLE partitions")
        answer = client.post("/v1/track", json=view(), auth=(write_key, ""))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["code"] == "unavailable"
        assert str(settings.home) not in answer.text
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200


def test_probes_need_no_key(collector: httpx.Client) -> None:
    answers = {path: collector.get(path, auth=httpx.Auth()) for path in ("/healthz", "/readyz", "/openapi.json")}
    assert answers["/healthz"].json() == {"status": "ok"}
    assert answers["/readyz"].json() == {"ready": True, "models": [], "lacks": []}
    assert answers["/openapi.json"].json()["info"]["title"] == "Bespoke collector"
