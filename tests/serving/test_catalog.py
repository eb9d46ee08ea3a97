"""The live catalog over HTTP: the good part is kept and durable, the rest is told with the reason."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from bespoke.catalog import Item
from bespoke.clock import FixedClock, to_ms
from bespoke.errors import InvalidEvent, Unavailable
from bespoke.events import ItemId
from serving.auth import Authenticator, requires
from serving.catalog import LiveItems, catalog_routes
from serving.errors import add_error_handlers
from serving.item_forms import parse_item
from serving.times import request_time
from storage.control import ControlStore, Scope
from storage.item_changes import ItemChange, LiveItem
from storage.settings import Settings

ClientOf = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
TEA = {
    "itemId": "tea",
    "name": "Green tea",
    "category": ["DRINKS", "TEA"],
    "brand": "ACME",
    "price": 2.5,
    "available": True,
    "rebuyAfterDays": 14,
    "text": "Leaves, 100 g",
}


@pytest.fixture
def control(settings: Settings) -> Iterator[ControlStore]:
    with ControlStore(settings.control_url) as opened:
        yield opened


@pytest.fixture
def site(
    control: ControlStore, client_of: ClientOf, new_key: Callable[[str], str], now: datetime
) -> Iterator[httpx.Client]:
    """Return a client with a key for the catalog."""
    app = FastAPI()
    check_key = requires(Authenticator(control), Scope.CATALOG)
    time = request_time(FixedClock(now), replay=False)
    app.include_router(catalog_routes(LiveItems(control), check_key=check_key, time=time))
    add_error_handlers(app)
    with client_of(app) as client:
        client.auth = (new_key("catalog"), "")
        yield client


def put(site: httpx.Client, *items: Any, method: str = "PUT") -> httpx.Response:
    return site.request(method, "/api/v1/items", json={"items": items})


def live(control: ControlStore) -> dict[str, LiveItem]:
    return {one.change.item_id: one for one in control.items_since(0)[0]}


def test_an_item_that_is_put_is_in_force_as_it_was_said(
    site: httpx.Client, control: ControlStore, now: datetime
) -> None:
    answer = put(site, TEA)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "accepted": 1, "version": 1, "rejected": []})
    one = live(control)["tea"]
    described = Item(ItemId("tea"), "Green tea", ("DRINKS", "TEA"), "ACME", 2.5, True, "Leaves, 100 g", 14.0)
    assert (one.change.onto(None), one.changed_ms) == (described, to_ms(now))
    assert one.by in {key.key_id for key in control.list_keys()}


def test_put_says_all_of_an_item_and_post_only_what_changed(site: httpx.Client, control: ControlStore) -> None:
    put(site, TEA)
    put(site, {"itemId": "tea", "available": False}, method="POST")
    assert live(control)["tea"].change.fields == {
        **{name: value for name, value in TEA.items() if name not in ("itemId", "rebuyAfterDays")},
        "rebuy_after_days": 14.0,
        "available": False,
    }
    put(site, {"itemId": "tea", "price": 3})
    assert live(control)["tea"].change == ItemChange(ItemId("tea"), {"price": 3.0})


def test_a_deleted_item_is_unavailable(site: httpx.Client, control: ControlStore) -> None:
    answer = site.delete(f"/api/v1/items/{quote('a/b ü', safe='')}")
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    assert live(control)["a/b ü"].change.onto(Item(ItemId("a/b ü"), "Kept")).available is False


def test_bad_items_are_told_and_the_good_ones_kept(site: httpx.Client, control: ControlStore) -> None:
    answer = put(site, TEA, {"itemId": "mug", "price": -1}, {"itemId": 7, "brand": None})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 2)
    assert answer.json()["rejected"] == [
        {
            "index": 1,
            "itemId": "mug",
            "field": "price",
            "value": "-1",
            "allowed": "a number from 0 to 1,000,000,000,000, or null",
        }
    ]
    assert set(live(control)) == {"tea", "7"}


def test_nothing_valid_is_an_error_and_nothing_is_stored(site: httpx.Client, control: ControlStore) -> None:
    answer = put(site, {"name": "no id"}, "tea")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_item")
    assert [one["field"] for one in answer.json()["rejected"]] == ["itemId", "item"]
    assert live(control) == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"items": []}', 422),
        (b'{"items": [{"itemId": "a"}], "more": 1}', 422),
        (b'{"items": [{"itemId": "a", "price": NaN}]}', 400),
        (b'{"items": [%s]}' % b",".join([b'{"itemId": "a"}'] * 1_001), 413),
    ],
)
def test_what_is_no_such_request_is_refused(site: httpx.Client, body: bytes, status: int) -> None:
    answer = site.put("/api/v1/items", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["success"]) == (status, False)


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"itemId": ""}, "itemId"),
        ({"itemId": "a\tb"}, "itemId"),
        ({"itemId": True}, "itemId"),
        ({"itemId": "a", "colour": "red"}, "colour"),
        ({"itemId": "a", "name": "x" * 501}, "name"),
        ({"itemId": "a", "name": "zero \0"}, "name"),
        ({"itemId": "a", "name": "half \ud800"}, "name"),
        ({"itemId": "a", "category": ["A", ""]}, "category[1]"),
        ({"itemId": "a", "category": "A > > B"}, "category[1]"),
        ({"itemId": "a", "category": ["x"] * 11}, "category"),
        ({"itemId": "a", "price": "2"}, "price"),
        ({"itemId": "a", "price": float("nan")}, "price"),
        ({"itemId": "a", "price": True}, "price"),
        ({"itemId": "a", "rebuyAfterDays": 4_000}, "rebuyAfterDays"),
        ({"itemId": "a", "available": None}, "available"),
        ({"itemId": "a", "available": 1}, "available"),
    ],
)
def test_each_field_is_checked(item: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse_item(item, whole=True)
    assert caught.value.field == field


def test_a_change_says_something(site: httpx.Client) -> None:
    assert put(site, {"itemId": "tea"}).status_code == 200
    assert put(site, {"itemId": "tea"}, method="POST").json()["rejected"][0]["field"] == "item"


def test_a_store_that_is_away_is_a_503(client_of: ClientOf, now: datetime) -> None:
    class Away:
        def change_items(self, changes: list[ItemChange], *, by: str, at: datetime) -> int:
            raise Unavailable("host:5432 is away")

    app = FastAPI()
    time = request_time(FixedClock(now), replay=False)

    class Key:
        key_id = "k"

    app.include_router(catalog_routes(LiveItems(Away()), check_key=Key, time=time))
    add_error_handlers(app)
    with client_of(app) as site:
        answer = put(site, TEA)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "5432" not in answer.text


def test_changing_the_catalog_needs_its_own_scope(site: httpx.Client, new_key: Callable[[str], str]) -> None:
    site.auth = ("nobody", "")
    assert put(site, TEA).status_code == 401
    for scope in ("recommend", "admin"):
        site.auth = (new_key(scope), "")
        assert [put(site, TEA, method=method).status_code for method in ("PUT", "POST")] == [403, 403]
        assert site.delete("/api/v1/items/tea").status_code == 403
