"""What is counted and kept of every request, whatever becomes of the quality store."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from bespoke.clock import FixedClock, to_ms
from bespoke.errors import ConfigError
from bespoke.events import Event
from ingestion.replay import replay_failed
from serving.applications import create_collector
from storage.eventlog import open_event_log
from storage.quality import FailedEvent, QualityStore
from storage.settings import Settings
from storage.tracking import load_plan

Stored = Callable[[], list[Event]]
ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
PLAN = """
on_violation = "block"
[events."Product Viewed"]
unplanned_properties = "flag"
[events."Product Viewed".properties]
size = { type = "number" }
[events."Product Clicked"]
on_violation = "pass"
[events."Product Clicked".properties]
price = { required = true }
"""


def view(message_id: str = "m1", *, name: str = "Product Viewed", user: str | None = "u1", **properties: Any) -> Any:
    message = {"type": "track", "event": name, "messageId": message_id, "properties": {"product_id": "p", **properties}}
    return message if user is None else {**message, "userId": user}


@pytest.fixture
def planned(settings: Settings, tmp_path: Path) -> Settings:
    """Return the installation with a tracking plan."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tracking.toml").write_text(PLAN)
    return settings.model_copy(update={"config_dir": tmp_path / "config"})


@pytest.fixture
def send(client_of: ClientOf, write_key: str, now: datetime) -> Callable[..., httpx.Response]:
    """Return what sends a batch to a collector that then ends, so that everything is written."""

    def sending(settings: Settings, *messages: Any, **changes: Any) -> httpx.Response:
        with client_of(create_collector(settings, clock=FixedClock(now))) as client:
            return client.post("/v1/batch", json={"batch": messages, **changes}, auth=(write_key, ""))

    return sending


@pytest.fixture
def counted(settings: Settings, now: datetime) -> Callable[[], dict[tuple[str, str, str], int]]:
    """Return what reads the counts by source, name and what."""

    def read() -> dict[tuple[str, str, str], int]:
        with QualityStore(settings.quality_url) as store:
            found = store.totals(since_ms=0, until_ms=to_ms(now) + 1)
        return {(key.source, key.name, key.what): n for key, n in found.items()}

    return read


@pytest.fixture
def kept(settings: Settings) -> Callable[[], list[FailedEvent]]:
    """Return what reads the failed events."""

    def read() -> list[FailedEvent]:
        with QualityStore(settings.quality_url) as store:
            return store.failed(limit=100)

    return read


def test_an_event_carries_the_name_of_its_key(
    settings: Settings, send: Callable[..., httpx.Response], stored: Stored
) -> None:
    send(settings, view())
    assert [event.source for event in stored()] == ["key for ingest"]


def test_what_is_accepted_and_what_is_refused_is_counted_by_key_and_event(
    settings: Settings, send: Callable[..., httpx.Response], counted: Callable[[], Any]
) -> None:
    answer = send(settings, view("m1", price=1), view("m2"), view("m3", user=None), "text")
    assert answer.json()["accepted"] == 2
    found = counted()
    assert found["key for ingest", "Product Viewed", "accepted"] == 2
    assert found["key for ingest", "Product Viewed", "missing:price"] == 1
    assert found["key for ingest", "Product Viewed", "rejected:userId"] == 1
    assert found["key for ingest", "", "rejected:message"] == 1


def test_a_refused_message_is_kept_as_it_was_sent(
    settings: Settings, send: Callable[..., httpx.Response], kept: Callable[[], list[FailedEvent]], now: datetime
) -> None:
    bad = view("m1", price="dear")
    send(settings, bad, sentAt="2026-03-01T11:59:00Z")
    (failed,) = kept()
    assert orjson.loads(failed.payload) == bad
    assert (failed.reason, failed.source, failed.person) == ("properties.price", "key for ingest", "u1")
    assert (failed.received_ms, failed.sent_at, failed.route) == (to_ms(now), '"2026-03-01T11:59:00Z"', None)
    assert failed.error.startswith("properties.price: got 'dear', expected a finite number")


def test_a_body_that_is_no_json_is_counted_and_not_kept(
    settings: Settings,
    client_of: ClientOf,
    write_key: str,
    now: datetime,
    counted: Callable[[], Any],
    kept: Callable[[], list[FailedEvent]],
) -> None:
    with client_of(create_collector(settings, clock=FixedClock(now))) as client:
        assert client.post("/v1/track", content=b"{", auth=(write_key, "")).status_code == 400
    assert counted() == {("key for ingest", "", "rejected:body"): 1}
    assert kept() == []


def test_the_plan_blocks_flags_and_passes(
    planned: Settings,
    send: Callable[..., httpx.Response],
    stored: Stored,
    counted: Callable[[], Any],
    kept: Callable[[], list[FailedEvent]],
) -> None:
    blocked, flagged = view("blocked", size="L"), view("flagged", colour="red")
    answer = send(
        planned, blocked, flagged, view("passed", name="Product Clicked"), view("other", name="Order Completed")
    )
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["field"]) == (0, "properties.size")
    events = {str(event.message_id): event for event in stored()}
    assert set(events) == {"flagged", "passed", "other"}
    assert [flag["rule"] for flag in events["flagged"].context["violations"]] == ["unplanned_property"]
    assert events["passed"].context == {}
    what = {(name, key) for _, name, key in counted() if key.startswith(("violation:", "rejected:"))}
    assert what == {
        ("Product Viewed", "violation:type:size"),
        ("Product Viewed", "rejected:plan:type:size"),
        ("Product Viewed", "violation:unplanned_property"),
        ("Product Clicked", "violation:missing:price"),
        ("Order Completed", "violation:unplanned_event"),
    }
    assert [failed.reason for failed in kept()] == ["plan:type:size"]


def test_a_blocked_event_comes_in_exactly_once_after_the_plan_is_right(
    planned: Settings, send: Callable[..., httpx.Response], stored: Stored, now: datetime
) -> None:
    for _ in range(2):
        assert send(planned, view("m1", size="L")).status_code == 400
    path = planned.config_dir / "tracking.toml"
    path.write_text(path.read_text().replace('size = { type = "number" }', 'size = { type = "string" }'))
    log = open_event_log(planned.log_url)
    with QualityStore(planned.quality_url) as store:
        replayed = [replay_failed(store, log, load_plan(planned.config_dir)).replayed for _ in range(2)]
    log.close()
    assert replayed == [1, 0]
    (event,) = stored()
    assert (event.message_id, event.source, event.received_ms) == ("m1", "key for ingest", to_ms(now))


def test_a_wrong_plan_keeps_the_collector_from_starting(planned: Settings) -> None:
    (planned.config_dir / "tracking.toml").write_text('on_violation = "drop"')
    with pytest.raises(ConfigError, match="on_violation"):
        create_collector(planned)


@pytest.fixture
def without_store(settings: Settings) -> Iterator[Settings]:
    """Return the installation with a folder where the quality store should be."""
    path = settings.home / "quality.db"
    path.mkdir(parents=True)
    yield settings
    assert path.is_dir()


def test_a_quality_store_that_is_down_stops_nothing(
    without_store: Settings, send: Callable[..., httpx.Response], stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    answer = send(without_store, view("m1"), view("m2", user=None))
    assert (answer.status_code, answer.json()["accepted"], len(answer.json()["rejected"])) == (200, 1, 1)
    assert [event.message_id for event in stored()] == ["m1"]
    assert "failed events were lost" in caplog.text
    assert "m2" not in caplog.text


def test_nothing_is_counted_of_a_request_that_the_log_did_not_take(
    settings: Settings,
    client_of: ClientOf,
    write_key: str,
    now: datetime,
    counted: Callable[[], Any],
    kept: Callable[[], list[FailedEvent]],
) -> None:
    with client_of(create_collector(settings, clock=FixedClock(now))) as client:
        with sqlite3.connect(settings.log_url.removeprefix("sqlite:///")) as log:
            log.execute("DROP TABLE partitions")
        answer = client.post("/v1/batch", json={"batch": [view("m1"), view("m2", user=None)]}, auth=(write_key, ""))
    assert answer.status_code == 503
    assert (counted(), kept()) == ({}, [])
