"""Items over HTTP: what everybody does with one, as features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from bespoke.catalog import Item
from bespoke.clock import DAY_MS, HOUR_MS, FixedClock, to_ms
from bespoke.errors import Unavailable
from bespoke.events import ItemId
from bespoke.items import ITEM_FEATURES, ItemState
from serving.auth import Authenticator, requires
from serving.errors import add_error_handlers
from serving.items import ItemReader, Items, item_routes
from serving.times import request_time
from storage.control import ControlStore, Scope
from storage.features import apply_feature_repo
from storage.features.items import OnlineItem, OnlineItems
from storage.item_states import StoredItem
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = to_ms(NOW)
TODAY = NOW_MS // DAY_MS
TEA = ItemState(
    first_ms=NOW_MS - 9 * DAY_MS,
    last_ms=NOW_MS,
    received_ms=NOW_MS - HOUR_MS,
    sold_ms=NOW_MS - 2 * DAY_MS,
    totals={"view": 8, "purchase": 2},
    day_counts={(TODAY - 2, "view"): 8, (TODAY - 2, "purchase"): 2},
)
VIEWED = ItemState(first_ms=NOW_MS, last_ms=NOW_MS, received_ms=NOW_MS, totals={"click": 1})
OLD = ItemState(first_ms=1, last_ms=1, received_ms=1, totals={"view": 1})


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineItems]:
    """Return an online store that holds some items."""
    settings = Settings(home=tmp_path_factory.mktemp("items") / "var")
    apply_feature_repo(settings)
    made = OnlineItems(settings)
    items = {"tea": TEA, "a/b ü%41": TEA, "viewed": VIEWED, "old": OLD}
    made.push([StoredItem(ItemId(name), state, 41) for name, state in items.items()])
    yield made
    made.close()


@pytest.fixture
def site_of(settings: Settings, client_of: ClientOf) -> Callable[[ItemReader], AbstractContextManager[httpx.Client]]:
    """Return what runs the route over a reader."""

    def run(reader: ItemReader) -> AbstractContextManager[httpx.Client]:
        app = FastAPI()
        check_key = requires(Authenticator(ControlStore(settings.control_url)), Scope.RECOMMEND)
        time = request_time(FixedClock(NOW), replay=False)
        app.include_router(item_routes(Items(reader, threads=ThreadPoolExecutor(1)), check_key=check_key, time=time))
        add_error_handlers(app)
        return client_of(app)

    return run


@pytest.fixture
def site(
    site_of: Callable[[ItemReader], AbstractContextManager[httpx.Client]],
    online: OnlineItems,
    new_key: Callable[[str], str],
) -> Iterator[httpx.Client]:
    """Return a client with a key for recommendations."""
    with site_of(online) as client:
        client.auth = (new_key("recommend"), "")
        yield client


def get(site: httpx.Client, item: str) -> httpx.Response:
    return site.get(f"/api/v1/items/{quote(item, safe='')}")


def test_an_item_says_what_everybody_does_with_it_as_of_the_request(site: httpx.Client) -> None:
    answer = get(site, "tea")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert set(found) == {"itemId", "catalog", "asOf", "features", "stale", "degraded"}
    assert (found["itemId"], found["stale"], found["degraded"]) == ("tea", False, None)
    assert datetime.fromisoformat(found["asOf"]) == NOW - timedelta(hours=1)
    features = found["features"]
    assert (features["views_7d"], features["conversion_30d"], features["last_sold_days"]) == (8, 0.25, 2)


def test_features_come_in_the_declared_order_and_unknown_ones_are_null(site: httpx.Client) -> None:
    features = get(site, "viewed").json()["features"]
    assert list(features) == [feature.name for feature in ITEM_FEATURES]
    assert (features["views_1d"], features["conversion_30d"], features["last_sold_days"]) == (0, None, None)


def test_ids_are_taken_as_they_were_sent(site: httpx.Client) -> None:
    assert get(site, "a/b ü%41").json()["itemId"] == "a/b ü%41"


def test_an_unknown_item_is_not_found(site: httpx.Client) -> None:
    answer = get(site, "nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_item")


@pytest.mark.parametrize("item", ["x" * 300, " ", "a\tb"])
def test_what_is_no_id_is_refused(site: httpx.Client, item: str) -> None:
    assert get(site, item).status_code == 422


def test_an_item_that_was_quiet_for_too_long_is_stale_and_has_no_features(site: httpx.Client) -> None:
    found = get(site, "old").json()
    assert (found["stale"], found["degraded"]) == (True, "features_stale")
    assert set(found["features"].values()) == {None}


def test_a_store_that_is_away_is_said(
    site_of: Callable[[ItemReader], AbstractContextManager[httpx.Client]], new_key: Callable[[str], str]
) -> None:
    class Away:
        def read(self, item_ids: Sequence[ItemId], *, at_ms: int) -> Mapping[ItemId, OnlineItem]:
            raise Unavailable("host:5432 is away")

    with site_of(Away()) as site:
        answer = site.get("/api/v1/items/tea", auth=(new_key("recommend"), ""))
    assert (answer.status_code, answer.json()["code"]) == (503, "features_unavailable")
    assert "5432" not in answer.text


def test_items_need_a_key_for_recommendations(site: httpx.Client, new_key: Callable[[str], str]) -> None:
    site.auth = ("nobody", "")
    assert get(site, "tea").status_code == 401
    site.auth = (new_key("profiles"), "")
    assert get(site, "tea").status_code == 403


def test_the_catalog_s_words_stand_beside_the_features_and_alone_where_nobody_did_anything(
    client_of: ClientOf, online: OnlineItems
) -> None:
    catalog = {ItemId(name): Item(ItemId(name), "Tea", ("DRINKS",), price=2.5) for name in ("tea", "new")}
    app = FastAPI()
    answers = Items(online, threads=ThreadPoolExecutor(1), describe=catalog.get)
    time = request_time(FixedClock(NOW), replay=False)
    app.include_router(item_routes(answers, check_key=lambda: None, time=time))
    add_error_handlers(app)
    with client_of(app) as site:
        tea, new = get(site, "tea").json(), get(site, "new").json()
        assert get(site, "viewed").json()["catalog"] is None
    assert (
        tea["catalog"]
        == new["catalog"]
        == {
            "name": "Tea",
            "category": ["DRINKS"],
            "brand": None,
            "price": 2.5,
            "available": True,
            "rebuyAfterDays": None,
        }
    )
    assert (tea["features"]["views_7d"], new["features"]["views_7d"], new["asOf"]) == (8, None, None)


def test_while_features_cannot_be_read_the_catalog_s_words_are_told_and_that_they_are_all(
    client_of: ClientOf, settings: Settings
) -> None:
    app, away = FastAPI(), OnlineItems(settings)
    tea = Item(ItemId("tea"), "Tea")
    answers = Items(away, threads=ThreadPoolExecutor(1), describe={tea.item_id: tea}.get)
    time = request_time(FixedClock(NOW), replay=False)
    app.include_router(item_routes(answers, check_key=lambda: None, time=time))
    add_error_handlers(app)
    with client_of(app) as site:
        told, unknown = get(site, "tea"), get(site, "nothing")
    assert (told.json()["catalog"]["name"], told.json()["degraded"]) == ("Tea", "features_unavailable")
    assert unknown.status_code == 503
