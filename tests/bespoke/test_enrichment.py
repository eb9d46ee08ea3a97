"""Enrichment: what is added, what is made coarser, and that no content brings it down."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.catalog import Item
from bespoke.enrichment import CatalogStep, DeviceStep, Enrichment, LocationStep, TableStep, device_type
from bespoke.events import Event, ItemId
from bespoke.parsing import parse_event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 "
    "Mobile/15E148 Safari/604.1"
)
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"
AGENTS = {
    IPHONE: "mobile",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36": "mobile",
    "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 7 Build/TQ3A.230805.001)": "mobile",
    f"Mozilla/5.0 (Linux; Android 12; SM-X906C) {CHROME} Safari/537.36": "tablet",
    "Mozilla/5.0 (iPad; CPU OS 15_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1": "tablet",
    f"Mozilla/5.0 (Linux; Android 11; KFTRWI) {CHROME} Silk/118.2 Safari/537.36": "tablet",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36": "desktop",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.0 Safari/605.1.15": "desktop",
    "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0": "desktop",
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36": "desktop",
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 5.0) AppleWebKit/537.36 Version/5.0 TV Safari/537.36": "tv",
    f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36": "tv",
    "Mozilla/5.0 (Linux; Android 5.1; AFTS Build/LMY47O) AppleWebKit/537.36 Chrome/41.9 Safari/537.36": "tv",
    "Roku/DVP-9.10 (519.10E04111A)": "tv",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": "bot",
    f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) {CHROME} Mobile Safari/537.36 (compatible; Googlebot/2.1)": "bot",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0.0.0 Safari/5": "bot",
    "okhttp/4.9.0": "other",
    "": "other",
    "\ud800": "other",
}
CATALOG = {ItemId("p1"): Item(ItemId("p1"), category=("FOOD", "MILK"), brand="Alm", price=1.25)}


class Bands:
    """A table of one postcode."""

    def row(self, key: str) -> dict[str, Any] | None:
        return {"income_band": "high", "city": "Graz"} if key == "8010" else None


WHOLE = Enrichment((DeviceStep(), LocationStep(), CatalogStep(lambda: CATALOG), TableStep("postcode", Bands())))


def message(**changes: Any) -> Event:
    whole = {"type": "track", "event": "Product Viewed", "messageId": "m1", "userId": "u1", "timestamp": None}
    return parse_event({**whole, "properties": {"product_id": "p1"}, **changes}, received_at=NOW)


def identify(**traits: Any) -> Event:
    return message(type="identify", event=None, properties=None, traits=traits)


@pytest.mark.parametrize(("agent", "expected"), AGENTS.items())
def test_a_user_agent_tells_the_device(agent: str, expected: str) -> None:
    assert device_type(agent) == expected


def test_the_device_is_added_where_the_sender_names_none() -> None:
    context = {"userAgent": IPHONE, "device": {"model": "x"}}
    assert WHOLE.apply(message(context=context)).context["device"] == {"model": "x", "type": "mobile"}
    said = {"userAgent": IPHONE, "device": {"type": "ios"}}
    assert WHOLE.apply(message(context=said)).context == said


def test_bots_are_told_by_their_agent_or_by_the_sender() -> None:
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    assert WHOLE.is_bot(message(context={"userAgent": bot}))
    assert WHOLE.is_bot(WHOLE.apply(message(context={"userAgent": bot})))
    assert WHOLE.is_bot(message(context={"device": {"type": "bot"}}))
    assert not WHOLE.is_bot(message(context={"userAgent": IPHONE}))
    assert not WHOLE.is_bot(message())
    assert Enrichment(bots=("uptime-check",)).is_bot(message(context={"userAgent": "Our-Uptime-Check/1"}))


def test_the_senders_address_never_stays() -> None:
    assert Enrichment().apply(message(context={"ip": "192.0.2.1", "locale": "de"})).context == {"locale": "de"}


def test_places_become_coarse() -> None:
    location = {"latitude": 47.070714, "longitude": 15.439504, "city": "Graz"}
    kept = WHOLE.apply(message(context={"location": location})).context["location"]
    assert kept == {"latitude": 47.07, "longitude": 15.44, "city": "Graz"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"latitude": 91, "longitude": 15},
        {"latitude": 47, "longitude": -180.5},
        {"latitude": "47.070714", "longitude": "15.439504"},
        {"latitude": 47.070714},
        {"latitude": True, "longitude": 1},
        {"latitude": 10**400, "longitude": 1},
    ],
)
def test_what_is_no_place_on_earth_is_dropped(wrong: dict[str, Any]) -> None:
    assert WHOLE.apply(message(context={"location": {**wrong, "city": "x"}})).context == {"location": {"city": "x"}}


def test_lines_get_what_they_lack_from_the_catalog_and_keep_what_they_say() -> None:
    (line,) = WHOLE.apply(message()).lines
    assert (line.category, line.brand, line.price) == ("MILK", "Alm", 1.25)
    said = {"product_id": "p1", "category": "OWN", "price": 0}
    (line,) = WHOLE.apply(message(properties=said)).lines
    assert (line.category, line.brand, line.price) == ("OWN", "Alm", 0)


def test_the_category_comes_from_the_level_that_is_asked_for() -> None:
    def category(level: int) -> str | None:
        return Enrichment((CatalogStep(lambda: CATALOG, ("category",), level),)).apply(message()).lines[0].category

    assert [category(level) for level in (-1, 0, 1, 5)] == ["MILK", "FOOD", "MILK", "MILK"]
    only_category = Enrichment((CatalogStep(lambda: CATALOG, ("category",)),))
    assert only_category.apply(message()).lines[0].price is None


def test_a_trait_is_looked_up_and_what_the_sender_says_stands() -> None:
    assert WHOLE.apply(identify(postcode=8010)).traits == {"postcode": 8010, "income_band": "high", "city": "Graz"}
    assert WHOLE.apply(identify(postcode="8010 ", city="Wien")).traits["city"] == "Wien"


@pytest.mark.parametrize(
    "event",
    [
        message(properties={"product_id": "unknown"}),
        message(properties={"product_id": "p1", "category": "A", "brand": "B", "price": 1}),
        identify(postcode="9999"),
        identify(postcode=[1]),
        identify(postcode={}),
        message(
            context={"location": {"latitude": 1.5, "longitude": 15}, "sessionId": "s"}, properties={"product_id": "x"}
        ),
    ],
)
def test_what_does_not_change_is_the_same_object(event: Event) -> None:
    assert WHOLE.apply(event) is event


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("userAgent", "device", "location", "ip", "type", "latitude", "longitude", "postcode", "page")
CONTEXT = st.dictionaries(
    st.sampled_from(NAMES) | st.text(max_size=5),
    JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
    max_size=6,
)


@given(CONTEXT, CONTEXT)
def test_no_content_brings_it_down_and_twice_is_once(context: dict[str, Any], traits: dict[str, Any]) -> None:
    for event in (message(context=context), message(type="identify", event=None, context=context, traits=traits)):
        once = WHOLE.apply(event)
        assert WHOLE.apply(once) == once
        assert WHOLE.is_bot(once) in (True, False)
        assert "ip" not in once.context
