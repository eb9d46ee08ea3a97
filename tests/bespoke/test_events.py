"""What the collector accepts, what it refuses, and how it says so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bespoke.clock import MINUTE_MS, to_ms
from bespoke.errors import InvalidEvent
from bespoke.events import Event, EventType, InteractionType
from bespoke.parsing import MAX_MESSAGE_BYTES, encode_event, parse_event

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(**changes: Any) -> dict[str, Any]:
    whole = {"type": "track", "event": "Product Viewed", "messageId": "m1", "userId": "u1"}
    whole["properties"] = {"product_id": "p1", "price": 2.5}  # type: ignore[assignment]
    return {**whole, **changes}


def parse(**changes: Any) -> Event:
    return parse_event(message(**changes), received_at=NOW)


def order(*products: Any) -> dict[str, Any]:
    return {"event": "Order Completed", "properties": {"products": list(products)}}


def test_ecommerce_names_become_interactions() -> None:
    event = parse(**order({"product_id": "p1", "quantity": 2, "price": 1.5, "category": "MILK"}, {"product_id": "p2"}))
    assert event.interaction is InteractionType.PURCHASE
    assert [(line.item_id, line.quantity, line.price) for line in event.lines] == [("p1", 2, 1.5), ("p2", 1.0, None)]


def test_an_event_about_no_item_is_no_interaction() -> None:
    assert parse(event="Signed Up", properties={}).interaction is None
    assert parse(type="page", event=None, name="Home").interaction is None


def test_payload_round_trips() -> None:
    event = parse(**order({"product_id": "p1", "quantity": 2}), context={"ip": "127.0.0.1"})
    assert Event.from_payload(encode_event(event)) == event


def test_foreign_payload_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="an event as the log keeps it"):
        Event.from_payload(b'{"messageId": 1}')


def test_time_is_corrected_by_the_senders_clock() -> None:
    ahead = NOW + timedelta(hours=5)
    event = parse(timestamp=(ahead - timedelta(minutes=3)).isoformat(), sentAt=ahead.isoformat())
    assert event.at_ms == to_ms(NOW) - 3 * MINUTE_MS


def test_the_batch_says_when_it_was_sent() -> None:
    sent = NOW - timedelta(hours=1)
    event = parse_event(message(timestamp=sent.isoformat()), received_at=NOW, sent_at=sent.isoformat())
    assert event.at_ms == to_ms(NOW)


def test_replay_accepts_any_age_and_keeps_the_datas_own_time() -> None:
    old = "2017-01-01T00:00:00Z"
    event = parse_event(message(timestamp=old, sentAt=NOW.isoformat()), received_at=NOW, replay=True)
    assert event.at_ms == to_ms(datetime(2017, 1, 1, tzinfo=UTC))


def test_an_anonymous_person_has_a_key_of_their_own() -> None:
    assert parse(userId=None, anonymousId="u1").person != parse(userId="u1").person


def test_numbers_are_taken_as_ids() -> None:
    assert parse(userId=17).person == "17"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"type": "purchase"}, "type"),
        ({"userId": None}, "userId"),
        ({"userId": ""}, "userId"),
        ({"userId": "x" * 300}, "userId"),
        ({"userId": "a\x00b"}, "userId"),
        ({"userId": True}, "userId"),
        ({"userId": "anonymous:1"}, "userId"),
        ({"messageId": None}, "messageId"),
        ({"messageId": []}, "messageId"),
        ({"event": None}, "event"),
        ({"event": 5}, "event"),
        ({"properties": []}, "properties"),
        ({"properties": {}}, "properties.product_id"),
        ({"properties": {"product_id": {}}}, "properties.product_id"),
        ({"properties": {"product_id": "p", "price": float("nan")}}, "properties.price"),
        ({"properties": {"product_id": "p", "price": "2"}}, "properties.price"),
        ({"properties": {"product_id": "p", "quantity": -1}}, "properties.quantity"),
        ({"properties": {"product_id": "p", "quantity": True}}, "properties.quantity"),
        ({"properties": {"product_id": "p", "category": 5}}, "properties.category"),
        (order(), "properties.products"),
        (order({"product_id": "p"}, 7), "properties.products[1]"),
        (order({"product_id": "p"}, {"price": 1}), "properties.products[1].product_id"),
        (order(*[{"product_id": "p"}] * 1001), "properties.products"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"timestamp": 5}, "timestamp"),
        ({"timestamp": (NOW + timedelta(minutes=11)).isoformat()}, "timestamp"),
        ({"timestamp": (NOW - timedelta(days=31)).isoformat()}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
        ({"timestamp": NOW.isoformat(), "sentAt": "x"}, "sentAt"),
        ({"event": "Recommendation Served"}, "event"),
        ({"messageId": "served-1"}, "messageId"),
        ({"type": "alias"}, "previousId"),
        ({"type": "group"}, "groupId"),
    ],
)
def test_a_broken_event_is_refused_by_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        parse(**changes)
    assert caught.value.field == field
    assert caught.value.allowed


@pytest.mark.parametrize("value", [None, 5, "text", [1]])
def test_a_message_is_an_object(value: Any) -> None:
    with pytest.raises(InvalidEvent, match="a JSON object"):
        parse_event(value, received_at=NOW, type=EventType.TRACK)


def test_the_route_says_the_type() -> None:
    event = parse_event({"userId": "u", "messageId": "m", "traits": {"a": 1}}, received_at=NOW, type=EventType.IDENTIFY)
    assert event.type is EventType.IDENTIFY


def test_an_oversized_event_is_refused() -> None:
    with pytest.raises(InvalidEvent, match=f"at most {MAX_MESSAGE_BYTES} bytes"):
        encode_event(parse(context={"blob": "x" * MAX_MESSAGE_BYTES}))


def test_an_endlessly_nested_event_is_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(300):
        nested = {"n": nested}
    with pytest.raises(InvalidEvent, match="nested at most"):
        encode_event(parse(context=nested))


def test_only_a_track_call_is_an_interaction() -> None:
    viewed = parse(type="page", event=None, name="Product Viewed", properties={})
    assert viewed.interaction is None
    assert Event.from_payload(encode_event(viewed)) == viewed
