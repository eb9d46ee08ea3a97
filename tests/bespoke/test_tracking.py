"""The tracking plan: what breaks it, what becomes of the event, and what a wrong plan is told."""

from datetime import UTC, datetime
from typing import Any

import pytest

from bespoke.errors import ConfigError
from bespoke.events import Event
from bespoke.parsing import MAX_MESSAGE_BYTES, encode_event, parse_event
from bespoke.tracking import FLAGS_KEY, Blocked, TrackingPlan, encode_judged, judged, read_plan

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def track(name: str = "Product Viewed", **properties: Any) -> Event:
    properties = {"product_id": "p1", **properties}
    message = {"type": "track", "event": name, "messageId": "m1", "userId": "u1", "properties": properties}
    return parse_event(message, received_at=NOW)


def identify(**traits: Any) -> Event:
    return parse_event({"type": "identify", "messageId": "m1", "userId": "u1", "traits": traits}, received_at=NOW)


def plan_of(action: str = "pass", *, unplanned: str = "pass", **properties: Any) -> TrackingPlan:
    events = {"Product Viewed": {"properties": properties}}
    return read_plan({"on_violation": action, "unplanned_properties": unplanned, "events": events})


def keys(plan: TrackingPlan, event: Event) -> list[str]:
    return sorted(violation.key for violation in plan.check(event))


@pytest.mark.parametrize(
    ("planned", "good", "bad"),
    [
        ({"type": "string"}, "x", 1),
        ({"type": "number"}, 1.5, True),
        ({"type": "number"}, 2, "2"),
        ({"type": "integer"}, 2.0, 2.5),
        ({"type": "integer"}, 10**30, "10"),
        ({"type": "boolean"}, False, 0),
        ({"type": "array"}, [], {}),
        ({"type": "object"}, {"a": 1}, [1]),
        ({"type": "time"}, "2026-01-31T12:00:00Z", "yesterday"),
        ({"type": "time"}, "2026-01-31", 20260131),
    ],
)
def test_a_value_of_another_type_is_found(planned: dict[str, Any], good: Any, bad: Any) -> None:
    plan = plan_of(x=planned)
    assert plan.check(track(x=good)) == ()
    assert keys(plan, track(x=bad)) == ["type:x"]


def test_a_value_outside_the_list_is_found_whatever_it_is() -> None:
    plan = plan_of(x={"allowed": ["EUR", 1]})
    assert [keys(plan, track(x=value)) for value in ("EUR", 1, 1.0)] == [[], [], []]
    odd: list[Any] = ["eur", True, [1], {}]
    assert [keys(plan, track(x=value)) for value in odd] == [["allowed:x"]] * 4


def test_a_number_outside_its_bounds_is_found_and_the_bounds_belong_to_them() -> None:
    plan = plan_of(x={"type": "number", "min": 0, "max": 10})
    assert [keys(plan, track(x=value)) for value in (0, 10, 5.5)] == [[], [], []]
    (low,) = plan.check(track(x=-1))
    assert (low.key, low.field, low.allowed) == ("bounds:x", "properties.x", "a number of at least 0 and at most 10")


def test_a_required_property_must_be_there_and_not_null_and_an_optional_one_may_be_absent() -> None:
    plan = plan_of(x={"required": True}, y={"type": "string"})
    assert keys(plan, track(x=0)) == []
    assert keys(plan, track()) == keys(plan, track(x=None, y=None)) == ["missing:x"]


def test_what_the_plan_does_not_name_counts_as_one_thing_whatever_it_is_called() -> None:
    plan = plan_of(product_id={"type": "string"})
    assert keys(plan, track(a=1, b=2)) == ["unplanned_property", "unplanned_property"]
    assert keys(plan, track("Product Clicked")) == ["unplanned_event"]


def test_rows_of_products_are_checked_by_number_and_counted_by_property() -> None:
    plan = read_plan({"events": {"Order Completed": {"product": {"price": {"type": "number", "required": True}}}}})
    order = track("Order Completed", product_id=None, products=[{"product_id": "a", "price": 1}, {"product_id": "b"}])
    broken = {violation.key: violation.field for violation in plan.check(order)}
    assert broken["missing:products.price"] == "properties.products[1].price"
    assert keys(plan, track("Order Completed", price=2)) == []
    assert keys(plan, track("Order Completed")) == ["missing:price"]


def test_traits_are_checked_where_the_plan_has_them() -> None:
    plan = read_plan({"identify": {"traits": {"age": {"type": "integer", "max": 130}}}})
    assert keys(plan, identify(age=131)) == ["bounds:age"]
    assert keys(plan_of(), identify(age="x")) == []


def test_a_passed_event_stays_the_same_object() -> None:
    plan, event = plan_of("pass", x={"required": True}), track()
    assert judged(event, plan.check(event)) is event


def test_a_flagged_event_carries_what_is_wrong_with_it() -> None:
    plan, event = plan_of("flag", x={"type": "number"}), track(x="1")
    kept = judged(event, plan.check(event))
    assert kept.properties == event.properties
    assert kept.context[FLAGS_KEY] == [{"rule": "type", "field": "properties.x", "value": "'1'", "allowed": "a number"}]


def test_flags_for_which_there_is_no_room_are_left_out() -> None:
    plan, room = plan_of("flag", x={"type": "number"}), MAX_MESSAGE_BYTES - len(encode_event(track(x="1", text="")))
    event = track(x="1", text="y" * room)
    assert encode_judged(event, plan.check(event)) == encode_event(event)
    small = track(x="1")
    assert encode_judged(small, plan.check(small)) == encode_event(judged(small, plan.check(small)))


def test_a_blocked_event_is_refused_with_field_value_and_file() -> None:
    plan = plan_of("block", x={"type": "number"})
    with pytest.raises(
        Blocked, match=r"properties\.x: got '1', expected a number, as config/tracking\.toml says"
    ) as it:
        judged(track(x="1"), plan.check(track(x="1")))
    assert it.value.key == "plan:type:x"


def test_the_strongest_action_decides() -> None:
    plan = plan_of("pass", unplanned="block", x={"required": True})
    event = track(y=1)
    assert keys(plan, event) == ["missing:x", "unplanned_property"]
    with pytest.raises(Blocked, match=r"properties\.y: got 1"):
        judged(event, plan.check(event))


def test_an_event_may_differ_from_the_whole_file() -> None:
    events = {"Product Viewed": {"on_violation": "block", "properties": {"x": {"required": True}}}}
    (violation,) = read_plan({"on_violation": "pass", "events": events}).check(track())
    assert violation.action == "block"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"on_violation": "drop"}, "on_violation: Input should be 'pass', 'flag' or 'block', got 'drop'"),
        ({"event": {}}, "event: Extra inputs are not permitted"),
        ({"events": {"A": {"properties": {"x": {"type": "text"}}}}}, "events.A.properties.x.type: Input should be"),
        ({"events": {"A": {"properties": {"x": {"type": "string", "min": 1}}}}}, "min and max need type number"),
        ({"events": {"A": {"properties": {"x": {"type": "number", "min": 2, "max": 1}}}}}, "min 2.0 is above max 1.0"),
        ({"events": {"A": {"properties": {"x": {"allowed": []}}}}}, "events.A.properties.x.allowed"),
    ],
)
def test_a_wrong_plan_is_told_by_entry_and_value(document: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_plan(document)
    assert told in str(caught.value)
    assert "edit config/tracking.toml" in str(caught.value)
