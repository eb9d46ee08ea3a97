"""Profiles over HTTP: what the online store holds of a person, as features, traits and segments."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import DAY_MS, FixedClock, to_ms
from bespoke.errors import Unavailable
from bespoke.events import ItemId, UserId, person_id
from bespoke.features import FEATURES
from bespoke.profiles import EMPTY, Profile, Recent, Trait
from serving.applications import create_recommender
from serving.tokens import to_token
from storage.eventlog import Message, open_event_log
from storage.features import OnlineFeatures, apply_feature_repo
from storage.profiles import StoredProfile
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = to_ms(NOW)
BUYER = Profile(
    first_ms=NOW_MS - 10 * DAY_MS,
    last_ms=NOW_MS - 3 * DAY_MS,
    received_ms=NOW_MS - 2 * DAY_MS,
    events=2,
    orders=1,
    revenue_micros=7_500_000,
    recent=(Recent(NOW_MS - 3 * DAY_MS, ItemId("tea"), "purchase", 1.0, 7_500_000, "drinks"),),
    traits={"city": Trait(NOW_MS, '"Zürich"'), "child_ages": Trait(NOW_MS, "[3,5]")},
)
OLD = Profile(first_ms=1, last_ms=1, received_ms=1, events=1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return an installation in whose online store some people are."""
    made = Settings(home=tmp_path_factory.mktemp("profiles") / "var")
    apply_feature_repo(made)
    online = OnlineFeatures(made)
    people = {"buyer": BUYER, "anonymous:a1": BUYER, "a/b ü%41": BUYER, "quiet": EMPTY, "old": OLD}
    online.push([StoredProfile(UserId(name), one, 41, 0, ("buyers", "vip")) for name, one in people.items()])
    online.close()
    return made


@pytest.fixture(scope="module")
def features(settings: Settings) -> Iterator[OnlineFeatures]:
    """Return the online store as the application reads it."""
    online = OnlineFeatures(settings)
    yield online
    online.close()


@pytest.fixture
def site(
    settings: Settings, features: OnlineFeatures, client_of: ClientOf, new_key: Callable[[str], str]
) -> Iterator[httpx.Client]:
    """Return a client with a key for profiles."""
    with client_of(create_recommender(settings, features=features, clock=FixedClock(NOW))) as client:
        client.auth = (new_key("profiles"), "")
        yield client


def get(site: httpx.Client, user: str, **query: str) -> httpx.Response:
    return site.get(f"/api/v1/profiles/{quote(user, safe='')}", params=query)


def test_a_profile_says_what_is_known_as_of_the_request(site: httpx.Client) -> None:
    answer = get(site, "buyer")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["userId"], found["version"], found["segments"]) == ("buyer", 41, ["buyers", "vip"])
    assert datetime.fromisoformat(found["asOf"]) == NOW - timedelta(days=2)
    assert found["traits"] == {"child_ages": [3, 5], "city": "Zürich"}
    assert (found["reflects"], found["stale"], found["degraded"]) == (None, False, None)
    assert (found["features"]["recency_days"], found["features"]["revenue"]) == (3.0, 7.5)


def test_features_come_in_the_declared_order_and_unknown_ones_are_null(site: httpx.Client) -> None:
    assert list(get(site, "buyer").json()["features"]) == [feature.name for feature in FEATURES]
    quiet = get(site, "quiet").json()
    assert (quiet["features"]["recency_days"], quiet["features"]["orders_90d"], quiet["asOf"]) == (None, 0.0, None)


@pytest.mark.parametrize("user", ["anonymous:a1", "a/b ü%41"])
def test_ids_are_taken_as_they_were_sent(site: httpx.Client, user: str) -> None:
    assert get(site, user).json()["userId"] == user


def test_an_unknown_person_is_not_found(site: httpx.Client) -> None:
    answer = get(site, "nobody")
    assert (answer.status_code, answer.json()["code"], answer.json()["reflects"]) == (404, "unknown_person", None)
    assert "nobody" not in answer.json()["message"]


@pytest.mark.parametrize("user", ["x" * 267, " ", "a\tb"])
def test_what_is_no_id_is_refused(site: httpx.Client, user: str) -> None:
    assert get(site, user).status_code == 422


def test_who_is_known_from_too_long_ago_is_stale_and_has_no_features(site: httpx.Client) -> None:
    found = get(site, "old").json()
    assert (found["stale"], found["degraded"], found["version"]) == (True, "features_stale", 41)
    assert set(found["features"].values()) == {None}


def test_a_token_is_honoured_or_said_not_to_be(site: httpx.Client, settings: Settings) -> None:
    log = open_event_log(settings.log_url)
    (position,) = log.append([Message(person_id("buyer", None), "m1", 1, b"{}")])
    token = to_token([position])
    assert get(site, "buyer", after=token).json()["reflects"] is False
    assert get(site, "nobody", after=token).json()["reflects"] is False
    log.set_position("features", position.partition, position.offset + 1)
    log.close()
    assert get(site, "buyer", after=token).json()["reflects"] is True
    assert get(site, "buyer", after="x").status_code == 422


@pytest.mark.parametrize("error", [Unavailable("host:5432 is away"), ValueError("row of buyer")])
def test_a_store_that_is_away_is_said_and_nobody_is_named(
    settings: Settings,
    client_of: ClientOf,
    new_key: Callable[[str], str],
    error: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(OnlineFeatures):
        def read(self, *_: Any, **__: Any) -> Any:
            raise error

    with client_of(create_recommender(settings, features=Away(settings))) as site:
        answer = site.get("/api/v1/profiles/buyer", auth=(new_key("profiles"), ""))
    assert (answer.status_code, answer.json()["code"]) == (503, "features_unavailable")
    assert "features cannot be read" in answer.json()["message"]
    assert "buyer" not in caplog.text + answer.text and "5432" not in answer.text


def test_profiles_need_a_key_for_them(site: httpx.Client, new_key: Callable[[str], str]) -> None:
    site.auth = ("nobody", "")
    assert get(site, "buyer").status_code == 401
    site.auth = (new_key("recommend"), "")
    assert get(site, "buyer").status_code == 403
