"""Recommendations over HTTP: personal where the person is known, open about what is missing, written down."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from bespoke.clock import FixedClock, from_ms, to_ms
from bespoke.errors import Unavailable
from bespoke.events import Event, ItemId, UserId, person_id
from bespoke.profiles import EMPTY, Profile, Recent
from serving.applications import create_recommender
from serving.recommendation_forms import RecommendationResponse
from serving.tokens import to_token
from storage.control import ControlStore
from storage.eventlog import Message, open_event_log
from storage.features import OnlineProfile
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
Publish = Callable[[str, dict[str, float]], str]
PATH = "/api/v1/recommendations"
WEIGHTS = {"a": 3.0, "b": 2.0, "c": 1.0}


class People:
    """Profiles in memory, which can be out of reach or slow."""

    def __init__(self, now: datetime) -> None:
        bought = Recent(to_ms(now), ItemId("c"), "purchase", 1.0)
        self.profiles = {UserId("buyer"): Profile(recent=(bought,)), UserId("anonymous:a1"): Profile(recent=(bought,))}
        self.expired: set[UserId] = set()
        self.failing, self.error, self.go_on = False, Exception("away"), threading.Event()
        self.go_on.set()

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, OnlineProfile]:
        assert service == "als"
        self.go_on.wait(10)
        if self.failing:
            raise self.error
        found = {id: OnlineProfile(self.profiles[id], 1) for id in user_ids if id in self.profiles}
        return found | {id: OnlineProfile(EMPTY, 1, stale=True) for id in user_ids if id in self.expired}

    def ready(self) -> bool:
        return not self.failing


@pytest.fixture
def people(now: datetime) -> People:
    """Return the profiles that requests find."""
    return People(now)


@pytest.fixture
def promote(settings: Settings, publish: Publish, now: datetime) -> Callable[[], str]:
    """Return what publishes a model and makes it the champion."""

    def make() -> str:
        version = publish("test", WEIGHTS)
        with ControlStore(settings.control_url) as control:
            control.set_pointer("champion", version, by="test", reason="test", at=now)
        return version

    return make


@pytest.fixture
def key(new_key: Callable[[str], str]) -> str:
    """Return a key with scope recommend."""
    return new_key("recommend")


@pytest.fixture
def site(
    settings: Settings, promote: Callable[[], str], client_of: ClientOf, people: People, key: str, now: datetime
) -> Iterator[httpx.Client]:
    """Return a client of a recommender whose champion knows the items a, b and c."""
    promote()
    with client_of(create_recommender(settings, features=people, clock=FixedClock(now))) as client:
        client.auth = (key, "")
        yield client


def items(answer: httpx.Response) -> list[str]:
    """Return the ids of a list."""
    assert answer.status_code == 200, answer.text
    return [item["itemId"] for item in answer.json()["items"]]


@pytest.mark.parametrize("asked", [{"userId": "buyer"}, {"userId": "new", "numResults": 1, "exclude": ["a"]}])
def test_the_body_is_the_form_that_the_document_promises(site: httpx.Client, asked: dict[str, Any]) -> None:
    answer = site.post(PATH, json=asked)
    form = RecommendationResponse.model_validate_json(answer.content)
    assert orjson.loads(form.model_dump_json(by_alias=True)) == answer.json()


def test_known_person_gets_their_own_first(site: httpx.Client) -> None:
    answer = site.post(PATH, json={"userId": "buyer"})
    assert items(answer) == ["c", "a", "b"]
    body = answer.json()
    assert body["items"][0] == {
        "itemId": "c",
        "score": pytest.approx(1.0, abs=0.01),
        "source": "personal",
        "reasons": ["bought 1 time, last 0 days ago"],
        "rules": [],
        "name": "C",
    }
    assert (body["experiment"], body["variant"], body["degraded"], body["reflects"]) == (None, None, None, None)
    assert body["modelVersion"].startswith("test@")


def test_stranger_gets_what_is_popular(site: httpx.Client) -> None:
    answer = site.post(PATH, json={"userId": "stranger"})
    assert items(answer) == ["a", "b", "c"]
    assert answer.json()["degraded"] is None


def test_who_is_known_from_too_long_ago_is_a_stranger_and_the_answer_says_so(
    site: httpx.Client, people: People
) -> None:
    people.expired.add(UserId("buyer"))
    answer = site.post(PATH, json={"userId": "buyer"})
    assert items(answer) == ["a", "b", "c"]
    assert answer.json()["degraded"] == "features_stale"


def test_anonymous_person_is_known_too(site: httpx.Client) -> None:
    assert items(site.post(PATH, json={"anonymousId": "a1"})) == ["c", "a", "b"]


def test_list_is_cut_and_leaves_out_what_it_must(site: httpx.Client) -> None:
    assert items(site.post(PATH, json={"userId": "s", "numResults": 2})) == ["a", "b"]
    assert items(site.post(PATH, json={"userId": "s", "exclude": ["a"]})) == ["b", "c"]
    assert "b" not in items(site.post(PATH, json={"userId": "s", "itemId": "b"}))
    assert items(site.post(PATH, json={"userId": "s", "exclude": ["a", "b", "c"]})) == []


def test_without_any_model_the_answer_is_empty_and_says_why(
    settings: Settings, client_of: ClientOf, people: People, key: str
) -> None:
    with client_of(create_recommender(settings, features=people)) as client:
        answer = client.post(PATH, json={"userId": "buyer"}, auth=(key, ""))
        assert items(answer) == []
        assert answer.json()["degraded"] == "no_model"
        assert answer.json()["modelVersion"] is None
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["lacks"] == ["model champion: nothing was promoted to it"]


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("row of buyer"), KeyError("buyer"), OSError("disk")])
def test_without_features_the_list_is_popular_and_says_why(
    site: httpx.Client, people: People, error: Exception
) -> None:
    people.failing, people.error = True, error
    answer = site.post(PATH, json={"userId": "buyer"})
    assert items(answer) == ["a", "b", "c"]
    assert answer.json()["degraded"] == "features_unavailable"
    ready = site.get("/readyz").json()
    assert (ready["ready"], ready["lacks"]) == (True, ["the online features cannot be read"])


def test_features_that_hang_are_not_waited_for(site: httpx.Client, people: People) -> None:
    people.go_on.clear()
    answer = site.post(PATH, json={"userId": "buyer"})
    people.go_on.set()
    assert items(answer) == ["a", "b", "c"]
    assert answer.json()["degraded"] == "features_unavailable"


def test_token_is_honoured_once_the_features_are_there(site: httpx.Client, settings: Settings) -> None:
    log = open_event_log(settings.log_url)
    positions = log.append([Message(person_id("buyer", None), "m1", 1, b"{}")])
    body = {"userId": "buyer", "after": to_token(positions)}
    assert site.post(PATH, json=body).json()["reflects"] is False
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(site.post(PATH, json=body)))
    asking.start()
    log.set_position("features", positions[0].partition, positions[0].offset + 1)
    asking.join()
    assert answers[0].json()["reflects"] is True
    assert items(answers[0]) == ["c", "a", "b"]
    log.close()


def test_token_waits_for_the_persons_own_partition_only(site: httpx.Client, settings: Settings) -> None:
    log = open_event_log(settings.log_url)
    positions = log.append([Message(person_id(f"u{n}", None), f"m{n}", 1, b"{}") for n in range(20)])
    log.set_position("features", positions[0].partition, log.end(positions[0].partition))
    log.close()
    assert len({position.partition for position in positions}) == 4
    assert site.post(PATH, json={"userId": "u0", "after": to_token(positions)}).json()["reflects"] is True


def test_repeated_request_is_the_same_recommendation(site: httpx.Client) -> None:
    def ask(user: str, headers: dict[str, str]) -> str:
        return str(site.post(PATH, json={"userId": user}, headers=headers).json()["recommendationId"])

    once = ask("u1", {"Idempotency-Key": "k1"})
    assert ask("u1", {"Idempotency-Key": "k1"}) == once
    assert ask("u2", {"Idempotency-Key": "k1"}) != once
    assert ask("u1", {"Idempotency-Key": "k2"}) != once
    assert ask("u1", {}) != ask("u1", {})


def test_exposure_says_what_was_shown(
    settings: Settings,
    client_of: ClientOf,
    promote: Callable[[], str],
    people: People,
    key: str,
    stored: Callable[[], list[Event]],
    now: datetime,
) -> None:
    version = promote()
    with client_of(create_recommender(settings, features=people, clock=FixedClock(now))) as client:
        body = {
            "userId": "buyer",
            "numResults": 2,
            "surface": "home",
            "context": {"device": "tv", "visit": 3, "new": False},
        }
        answer = client.post(PATH, json=body, auth=(key, "")).json()
    (event,) = stored()
    assert (event.name, event.person, from_ms(event.at_ms)) == ("Recommendation Served", "buyer", now)
    assert event.message_id == f"served-{answer['recommendationId']}"
    assert event.lines == ()
    said = dict(event.properties)
    assert said.pop("decision")["pipeline"] == "default", "what a replay needs; its own tests say more"
    for place, item in enumerate(said["items"]):
        assert item.pop("score") == pytest.approx(answer["items"][place]["score"], abs=1e-6)
    assert said == {
        "recommendation_id": answer["recommendationId"],
        "items": [
            {"product_id": "c", "position": 1, "source": "personal", "propensity": 1.0},
            {"product_id": "a", "position": 2, "source": answer["items"][1]["source"], "propensity": 1.0},
        ],
        "experiment": None,
        "variant": None,
        "assignments": [],
        "model_version": version,
        "pipeline": "default",
        "degraded": None,
        "surface": "home",
        "channel": None,
        "item_id": None,
        "context": {"device": "tv", "visit": 3, "new": False},
    }


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "body"),
        ({"userId": ""}, 422, "userId"),
        ({"userId": "anonymous:x"}, 422, "body"),
        ({"userId": "x" * 257}, 422, "userId"),
        ({"userId": "u", "numResults": 0}, 422, "numResults"),
        ({"userId": "u", "numResults": 101}, 422, "numResults"),
        ({"userId": "u", "numresults": 5}, 422, "numresults"),
        ({"userId": "u", "exclude": "a"}, 422, "exclude"),
        ({"userId": "u", "exclude": ["a"] * 1001}, 422, "exclude"),
        ({"userId": "u", "context": {str(n): n for n in range(21)}}, 422, "context"),
        ({"userId": "u", "context": {"k" * 65: 1}}, 422, f"context.{'k' * 65}.[key]"),
        ({"userId": "u", "context": {"page": "x" * 201}}, 422, "context.page"),
        ({"userId": "u", "context": {"page": {"deep": 1}}}, 422, "context.page"),
        ([], 422, "body"),
    ],
)
def test_bad_request_is_told_what_is_wrong(site: httpx.Client, body: Any, status: int, field: str) -> None:
    answer = site.post(PATH, json=body)
    assert answer.status_code == status
    assert answer.json()["code"] == "invalid_request"
    assert answer.json()["details"][0]["field"].startswith(field)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"userId": "u", "context": {"x": NaN}}', 400, "invalid_json"),
        (b'{"userId": "u", "after": "3.x"}', 422, "invalid_token"),
        (b'{"userId": "u", "context": {"x": "' + b"x" * 300_000 + b'"}}', 413, "too_large"),
    ],
)
def test_bad_body_gets_a_clear_4xx(site: httpx.Client, content: bytes, status: int, code: str) -> None:
    answer = site.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_key_needs_the_scope_recommend(site: httpx.Client, key: str, write_key: str) -> None:
    body = {"userId": "u"}
    assert site.post(PATH, json=body, auth=httpx.Auth()).status_code == 401
    assert site.post(PATH, json=body, auth=("wrong", "")).status_code == 401
    assert site.post(PATH, json=body, auth=(write_key, "")).status_code == 403
    bearer = {"Authorization": f"Bearer {key}"}
    assert site.post(PATH, json=body, headers=bearer, auth=httpx.Auth()).status_code == 200


def test_replay_ranks_at_the_time_that_the_request_names(
    settings: Settings,
    client_of: ClientOf,
    promote: Callable[[], str],
    people: People,
    key: str,
    stored: Callable[[], list[Event]],
) -> None:
    promote()
    replay = settings.model_copy(update={"replay": True})
    with client_of(create_recommender(replay, features=people)) as client:
        headers = {"X-Bespoke-Time": "2026-03-11T12:00:00+00:00"}
        answer = client.post(PATH, json={"userId": "buyer"}, headers=headers, auth=(key, ""))
        assert answer.json()["items"][0]["reasons"] == ["bought 1 time, last 10 days ago"]
        bad = client.post(PATH, json={"userId": "u"}, headers={"X-Bespoke-Time": "noon"}, auth=(key, ""))
        assert (bad.status_code, bad.json()["code"]) == (400, "invalid_time")
    assert [from_ms(event.at_ms).isoformat() for event in stored()] == ["2026-03-11T12:00:00+00:00"]


def test_models_shows_wanted_and_active(
    settings: Settings, client_of: ClientOf, promote: Callable[[], str], people: People, key: str, now: datetime
) -> None:
    version = promote()
    with ControlStore(settings.control_url) as control:
        control.set_pointer("challenger", "test@nowhere", by="test", reason="test", at=now)
    with client_of(create_recommender(settings, features=people)) as client:
        models = {model["pointer"]: model for model in client.get("/api/v1/models", auth=(key, "")).json()["models"]}
        assert client.get("/api/v1/models").status_code == 401
        assert client.get("/readyz").json()["lacks"] == ["model challenger: not loadable"]
    assert models["champion"] == {
        "pointer": "champion",
        "wanted": version,
        "active": version,
        "kind": "buy_again",
        "error": None,
    }
    assert (models["challenger"]["wanted"], models["challenger"]["active"]) == ("test@nowhere", None)
    assert "no such version" in models["challenger"]["error"]


def test_pages_describe_the_interface(site: httpx.Client) -> None:
    assert site.get("/docs").status_code == 200
    assert {PATH, "/healthz", "/readyz", "/api/v1/models"} <= set(site.get("/openapi.json").json()["paths"])


def test_log_holds_no_ids(site: httpx.Client, people: People, caplog: pytest.LogCaptureFixture) -> None:
    people.failing, people.error = True, ValueError("row of buyer")
    with caplog.at_level(logging.DEBUG):
        site.post(PATH, json={"userId": "buyer", "after": "nonsense"})
        site.post(PATH, json={"userId": "buyer", "numResults": 0})
        site.post(PATH, json={"userId": "buyer"})
    assert "features cannot be read" in caplog.text
    assert "buyer" not in caplog.text
