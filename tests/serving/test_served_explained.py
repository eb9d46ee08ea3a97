"""Whatever is served over HTTP comes out again: every kind of list, with every kind of wish."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from bespoke.clock import DAY_MS, FixedClock, to_ms
from bespoke.errors import NotFound
from bespoke.events import ItemId, UserId
from bespoke.profiles import STATE_COLUMNS, Profile, Recent
from serving.applications import create_recommender
from serving.replay import Replay, Replayer
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.decision_log import DecisionLog
from storage.eventlog import open_event_log
from storage.features import OnlineProfile
from storage.item_changes import ItemChange
from storage.lake import Lake
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
POLL_S = 0.05
PIPELINES = """
[default]
sources = [{ kind = "model", budget = 60 }, { kind = "popular" }, { kind = "popular_in_category", fill = true }]
blend = "fusion"
bought_within_days = 7
frequency_cap = { times = 2, days = 3 }
diversity = { mmr = 0.3, per_category = 4 }
exploration = { share = 0.3, pool = 10 }
"""
RULES = """
[no-i3]
exclude = { filter = "item_id == 'i3'" }

[first-at-home]
when = { surface = ["home"], segment = ["loyal"] }
pin = { items = ["i25"], position = 2 }
"""


class People:
    """One person whom everybody knows."""

    def __init__(self, now: datetime) -> None:
        bought = Recent(to_ms(now) - DAY_MS, ItemId("i1"), "purchase", 1.0)
        viewed = Recent(to_ms(now) - DAY_MS // 2, ItemId("i5"), "view", 1.0)
        self.one = OnlineProfile(Profile(recent=(bought, viewed)), 4, segments=("loyal", "new"))

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, OnlineProfile]:
        return {id: self.one for id in user_ids if id == "u1"}

    def ready(self) -> bool:
        return True


@pytest.fixture
def people(now: datetime) -> People:
    return People(now)


@pytest.fixture
def installed(
    settings: Settings, publish: Callable[[str, dict[str, float]], str], now: datetime, tmp_path: Path
) -> Settings:
    """Return an installation with pipelines, rules and a live catalog."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pipelines.toml").write_text(PIPELINES)
    (tmp_path / "config" / "rules.toml").write_text(RULES)
    weights = {f"i{n}": float(60 - n) for n in range(60)}
    with ControlStore(settings.control_url) as control:
        for pointer in ("champion", "popular"):
            control.set_pointer(pointer, publish(pointer, weights), by="t", reason="t", at=now)
        said = [{"price": n / 2, "category": [f"C{n % 7}"], "available": n != 2} for n in range(60)]
        described = [ItemChange(ItemId(f"i{n}"), fields) for n, fields in enumerate(said)]
        control.change_items([*described, ItemChange(ItemId("new"), {"price": 1.0})], by="t", at=now)
    return settings.model_copy(update={"config_dir": tmp_path / "config"})


@pytest.fixture
def site(
    installed: Settings, people: People, client_of: ClientOf, new_key: Callable[[str], str], now: datetime
) -> Iterator[httpx.Client]:
    with client_of(create_recommender(installed, features=people, clock=FixedClock(now))) as client:
        client.auth = (new_key("recommend"), "")
        yield client


@pytest.fixture
def replay(installed: Settings, people: People) -> Iterator[Callable[[str], Replay]]:
    """Return what makes a decision again as soon as it is written down."""
    log = open_event_log(installed.log_url)
    with ControlStore(installed.control_url) as control:
        replayer = Replayer(
            DecisionLog(Lake(installed.lake_dir), log),
            control,
            BundleStore(installed.bundles_dir),
            features=people,
            columns=lambda service: STATE_COLUMNS.keys(),
        )

        def again(id: str) -> Replay:
            give_up_s = time.monotonic() + 60
            while True:
                seen = {partition: log.end(partition) for partition in range(log.partitions)}
                try:
                    return replayer.replay(id)
                except NotFound:
                    assert log.wait(seen, max(give_up_s - time.monotonic(), 0)), "it was never written down"

        yield again
    log.close()


WISHES: dict[str, tuple[str, dict[str, Any]]] = {
    "person": ("", {"userId": "u1", "surface": "home"}),
    "stranger": ("", {"anonymousId": "a1", "surface": "home", "context": {"device": "phone"}}),
    "beside an item": ("", {"userId": "u1", "itemId": "i7", "excludeSeen": True}),
    "filter": ("", {"userId": "u1", "filter": "price < $p and category == 'C3'", "filterValues": {"p": 20}}),
    "exclude": ("", {"userId": "u1", "exclude": ["i0", "i4", "nothing"]}),
    "promotion": ("", {"userId": "u1", "promotions": [{"name": "late", "filter": "price > 25", "share": 0.3}]}),
    "similar": ("/similar", {"itemId": "i4", "userId": "u1"}),
    "session": ("/session", {"session": [{"itemId": "i9"}, {"itemId": "i8", "interaction": "purchase"}]}),
    "session of somebody": ("/session", {"userId": "u1", "session": [{"itemId": "i9"}]}),
    "trending": ("/trending", {"filter": "price > 3"}),
    "rank": ("/rank", {"userId": "u1", "items": ["i9", "i40", "nothing", "i5", "i3"]}),
}


@pytest.mark.parametrize("wish", WISHES)
def test_every_kind_of_list_comes_out_again(site: httpx.Client, replay: Callable[[str], Replay], wish: str) -> None:
    path, body = WISHES[wish]
    answer = site.post(f"/api/v1/recommendations{path}", json={"numResults": 8, **body})
    assert answer.status_code == 200, answer.text
    made = replay(answer.json()["recommendationId"])
    assert made.differences == ()
    assert [item.item_id for item in made.explanation.items] == [item["itemId"] for item in answer.json()["items"]]
    assert made.record.catalog_seq == 61


def test_the_next_page_and_what_was_shown_before_come_out_again(
    site: httpx.Client, replay: Callable[[str], Replay]
) -> None:
    page: str | None = None
    for _ in range(3):
        wish = {"userId": "u1", "numResults": 5, **({} if page is None else {"page": page})}
        answer = site.post("/api/v1/recommendations", json=wish).json()
        assert replay(answer["recommendationId"]).identical
        page = answer["nextPage"]
    assert page is not None


def shown(site: httpx.Client) -> list[str]:
    # Somebody new each time: what one person was shown often enough does not come again.
    answer = site.post("/api/v1/recommendations", json={"anonymousId": str(uuid4()), "numResults": 50})
    assert answer.status_code == 200, answer.text
    return [item["itemId"] for item in answer.json()["items"]]


def until(holds: Callable[[], bool]) -> None:
    """Ask again until it holds."""
    give_up_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_s, "it never did"
        # Asking without a pause would keep the thread that follows the catalog from its turn.
        time.sleep(POLL_S)


def test_an_item_is_taken_out_and_put_back_while_lists_are_served(
    site: httpx.Client, new_key: Callable[[str], str]
) -> None:
    catalog = (new_key("catalog"), "")
    assert "i6" in shown(site)
    assert site.delete("/api/v1/items/i6", auth=catalog).status_code == 200
    until(lambda: "i6" not in shown(site))
    until(lambda: site.get("/api/v1/items/i6").json()["catalog"]["available"] is False)
    back = {"items": [{"itemId": "i6", "name": "Six", "available": True}]}
    assert site.post("/api/v1/items", json=back, auth=catalog).status_code == 200
    until(lambda: "i6" in shown(site))
    described = site.get("/api/v1/items/i6").json()["catalog"]
    assert (described["name"], described["category"], described["price"]) == ("Six", ["C6"], 3.0)


def test_a_decision_is_explained_over_http(
    site: httpx.Client, replay: Callable[[str], Replay], new_key: Callable[[str], str]
) -> None:
    answer = site.post("/api/v1/recommendations", json={"userId": "u1", "numResults": 5, "surface": "home"}).json()
    id = answer["recommendationId"]
    replay(id)
    path, asked = f"/api/v1/decisions/{id}/explain", {"itemIds": ["i2", "i3", "i1"]}
    assert site.post(path, json=asked).status_code == 403
    told = site.post(path, json=asked, auth=(new_key("profiles"), ""))
    assert told.status_code == 200, told.text
    body = told.json()
    assert body["identical"] is True
    assert [one["reason"] for one in body["notShown"]] == ["unavailable", "rule", "excluded"]
    assert body["items"][1]["rules"] == ["first-at-home"]
    assert (body["modelVersion"], body["profileVersion"]) == (answer["modelVersion"], 4)
