"""Segments: every condition by hand-computed examples, at the edges of its window too."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.errors import NotFound
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import EMPTY, Profile, fold
from bespoke.segments import SCORE_LOOK_MS, Evaluation, Segments, read_segments

T = 20_000 * DAY_MS
"""A midnight."""
TENT = Line(ItemId("tent"), 1.0, 200.0, "outdoor", "Alp")
STOVE = Line(ItemId("stove"), 2.0, 50.0, "outdoor", "Blaze")
BOOK = Line(ItemId("book"), 1.0, None, "books", None)


def event(at_ms: int, name: str = "Product Viewed", *lines: Line, **more: Any) -> Event:
    kind = EventType(name) if name in tuple(EventType) else EventType.TRACK
    return Event(
        message_id=MessageId(f"{at_ms}-{name}"),
        type=kind,
        name=name if kind is EventType.TRACK else None,
        user_id="u",
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=at_ms,
        lines=lines,
        **more,
    )


def person(*events: Event) -> Profile:
    profile = EMPTY
    for one in events:
        profile = fold(profile, one)
    return profile


def segment(condition: Mapping[str, Any]) -> Segments:
    return read_segments({"one": {"all": [condition]}}, scores=("churn_30d",))


def looked(condition: Mapping[str, Any], profile: Profile, at_ms: int, score: float | None = None) -> Evaluation:
    return segment(condition).evaluate(profile, at_ms, score=lambda _: score)


def holds(condition: Mapping[str, Any], profile: Profile, at_ms: int = T, score: float | None = None) -> bool:
    return looked(condition, profile, at_ms, score).inside == ("one",)


CARTED = {"count": "Product Added", "within": "10 minutes", "at_least": 1}


def test_an_event_leaves_a_window_when_it_is_as_old_as_the_window_is_long() -> None:
    profile = person(event(T, "Product Added", TENT))
    for at_ms in (T, T + 10 * MINUTE_MS - 1):
        assert looked(CARTED, profile, at_ms) == Evaluation(("one",), T + 10 * MINUTE_MS)
    assert looked(CARTED, profile, T + 10 * MINUTE_MS) == Evaluation((), None)


def test_the_second_newest_event_decides_when_two_are_needed() -> None:
    profile = person(*(event(T + n, "Product Added", TENT) for n in (0, 5, 9)))
    found = looked({**CARTED, "at_least": 2}, profile, T + 10)
    assert found == Evaluation(("one",), T + 5 + 10 * MINUTE_MS)


def test_too_many_become_few_enough_as_they_leave() -> None:
    few = {"count": "Product Added", "within": "1 hour", "at_most": 1}
    profile = person(*(event(T + n, "Product Added", TENT) for n in (0, 5, 9)))
    assert looked(few, profile, T + 10) == Evaluation((), T + 5 + HOUR_MS)
    assert looked(few, profile, T + 5 + HOUR_MS) == Evaluation(("one",), None)


def test_an_exact_number_comes_and_goes() -> None:
    two = {"count": "Product Added", "within": "1 hour", "is": 2}
    profile = person(*(event(T + n, "Product Added", TENT) for n in (0, 5, 9)))
    assert looked(two, profile, T + 10) == Evaluation((), T + HOUR_MS)
    assert looked(two, profile, T + HOUR_MS) == Evaluation(("one",), T + 5 + HOUR_MS)
    assert looked(two, profile, T + 5 + HOUR_MS) == Evaluation((), None)


def test_what_is_ahead_of_the_clock_counts_at_once() -> None:
    profile = person(event(T + MINUTE_MS, "Product Added", TENT))
    assert looked(CARTED, profile, T) == Evaluation(("one",), T + 11 * MINUTE_MS)


def test_without_a_window_everything_kept_counts_and_never_leaves() -> None:
    profile = person(event(T - 900 * DAY_MS, "Product Added", TENT))
    assert looked({"count": "Product Added", "at_least": 1}, profile, T) == Evaluation(("one",), None)


def test_messages_count_unless_lines_are_asked_for() -> None:
    profile = person(event(T, "Order Completed", TENT, STOVE, BOOK), event(T, "Product Viewed", TENT))
    orders = {"count": "Order Completed", "within": "1 day"}
    assert holds({**orders, "is": 1}, profile)
    assert holds({**orders, "is": 3, "of": "lines"}, profile)
    assert holds({"count": "any", "is": 2, "category": "outdoor"}, profile)
    assert holds({"count": "any", "is": 3, "category": "outdoor", "of": "lines"}, profile)


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ({"item": "tent"}, 1),
        ({"item": ["tent", "book"]}, 2),
        ({"category": "outdoor"}, 2),
        ({"category": ["outdoor", "books"]}, 3),
        ({"brand": "Blaze"}, 1),
        ({"category": "outdoor", "brand": "Alp"}, 1),
        ({"category": "books", "brand": ["Alp", "Blaze"]}, 0),
        ({"price_above": 50}, 1),
        ({"price_below": 50.01}, 1),
        ({"price_above": 49.99, "price_below": 200}, 1),
        ({"category": "Outdoor"}, 0),
    ],
)
def test_items_are_filtered(asked: Mapping[str, Any], lines: int) -> None:
    profile = person(event(T, "Order Completed", TENT, STOVE, BOOK), event(T, "Product Viewed", TENT, STOVE, BOOK))
    assert holds({"count": "Order Completed", "of": "lines", "is": lines, **asked}, profile)


def test_names_without_items_leave_by_whole_minutes() -> None:
    search = {"count": "Products Searched", "within": "10 minutes", "at_least": 1}
    profile = person(event(T + 20_000, "Products Searched"), event(T + 30_000, "page"))
    assert looked(search, profile, T + 30_000) == Evaluation(("one",), T + 11 * MINUTE_MS)
    assert looked(search, profile, T + 11 * MINUTE_MS) == Evaluation((), None)


def test_longer_windows_of_such_names_leave_by_hour_and_by_day() -> None:
    profile = person(event(T + 5 * MINUTE_MS, "page"))
    assert looked({"count": "page", "within": "8 days", "at_least": 1}, profile, T + HOUR_MS) == Evaluation(
        ("one",), T + HOUR_MS + 8 * DAY_MS
    )
    assert looked({"count": "page", "within": "9 days", "at_least": 1}, profile, T + HOUR_MS) == Evaluation(
        ("one",), T + 10 * DAY_MS
    )


def test_any_counts_events_with_and_without_items() -> None:
    profile = person(event(T, "page"), event(T, "Quiz Taken"), event(T + 1, "Order Completed", TENT, STOVE))
    anything = {"count": "any", "within": "1 hour"}
    assert looked({**anything, "is": 3}, profile, T + 2) == Evaluation(("one",), T + 1 + HOUR_MS)
    assert holds({**anything, "is": 2}, profile, T + 1 + HOUR_MS)


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ({"above": 250}, False),
        ({"at_least": 250}, True),
        ({"below": 250}, False),
        ({"at_most": 250}, True),
        ({"is": 250}, True),
        ({"is_not": 250}, False),
        ({"one_of": [1, 250.0]}, True),
        ({"exists": True}, True),
        ({"exists": False}, False),
        ({"above": 249, "below": 251}, True),
        ({"above": 249, "at_most": 249.5}, False),
    ],
)
def test_numbers_compare(comparison: Mapping[str, Any], expected: bool) -> None:
    spent = person(event(T, "Order Completed", TENT, Line(ItemId("rope"), 1.0, 50.0)))
    assert holds({"feature": "revenue", **comparison}, spent) is expected


@pytest.mark.parametrize("comparison", [{"above": 0}, {"below": 9}, {"is": 0}, {"is_not": 0}, {"one_of": [0, 1]}])
@pytest.mark.parametrize("what", ["feature", "score", "trait"])
def test_nothing_compares_with_what_is_missing(what: str, comparison: Mapping[str, Any]) -> None:
    name = {"feature": "order_value", "score": "churn_30d", "trait": "age"}[what]
    if what == "score":
        comparison = {key: min(value, 1) if key == "below" else value for key, value in comparison.items()}
    assert not holds({what: name, **comparison}, EMPTY)
    assert holds({what: name, "exists": False}, EMPTY)


def test_a_feature_that_grows_crosses_its_level_by_time_alone() -> None:
    profile, week = person(event(T)), {"feature": "recency_days", "at_least": 7}
    found = looked(week, profile, T + DAY_MS)
    assert found.inside == () and found.next_change_ms is not None
    assert T + DAY_MS < found.next_change_ms <= T + 7 * DAY_MS
    assert holds(week, profile, T + 7 * DAY_MS) and not holds(week, profile, T + 7 * DAY_MS - 1)


def test_text_features_compare() -> None:
    profile = person(event(T, "Product Viewed", TENT))
    assert holds({"feature": "last_viewed", "is": "tent"}, profile)
    assert holds({"feature": "last_viewed", "one_of": ["book", "tent"]}, profile)
    assert not holds({"feature": "last_viewed", "is_not": "tent"}, profile)
    assert holds({"feature": "last_carted", "exists": False}, profile)


def test_a_score_is_looked_at_again_within_a_day() -> None:
    risk = {"score": "churn_30d", "above": 0.7}
    assert looked(risk, EMPTY, T, score=0.8) == Evaluation(("one",), T + SCORE_LOOK_MS)
    assert looked(risk, EMPTY, T, score=0.7) == Evaluation((), T + SCORE_LOOK_MS)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"trait": "area", "is": "urban"}, True),
        ({"trait": "area", "is_not": "urban"}, False),
        ({"trait": "area", "above": 3}, False),
        ({"trait": "age", "at_least": 18, "below": 65}, True),
        ({"trait": "age", "is": 40.0}, True),
        ({"trait": "member", "is": True}, True),
        ({"trait": "member", "is": 1}, False),
        ({"trait": "member", "above": 0}, False),
        ({"trait": "address.city", "is": "Oslo"}, True),
        ({"trait": "address.zip", "exists": False}, True),
        ({"trait": "address", "exists": True}, True),
        ({"trait": "address", "is": "Oslo"}, False),
        ({"trait": "area.city", "exists": True}, False),
        ({"trait": "a.b", "is": "whole"}, True),
        ({"trait": "nothing", "exists": False}, True),
    ],
)
def test_traits_compare(condition: Mapping[str, Any], expected: bool) -> None:
    said = {"area": "urban", "age": 40, "member": True, "address": {"city": "Oslo"}, "a.b": "whole", "nothing": None}
    assert holds(condition, person(event(T, "identify", traits=said))) is expected


def test_distance_is_from_the_last_place() -> None:
    at_brandenburg_gate = {"location": {"latitude": 52.5163, "longitude": 13.3777}}
    profile = person(event(T, "page", context=at_brandenburg_gate))
    potsdam = {"distance_from": [52.3906, 13.0645]}
    assert holds({**potsdam, "within_km": 26}, profile) and not holds({**potsdam, "within_km": 25}, profile)
    assert not holds({**potsdam, "within_km": 20_100}, EMPTY)


def test_a_failing_all_waits_for_the_part_that_fails_longest() -> None:
    both = {
        "all": [
            {"not": {"count": "Product Added", "within": "1 hour", "at_least": 1}},
            {"not": {"count": "Product Viewed", "within": "2 hours", "at_least": 1}},
        ]
    }
    profile = person(event(T, "Product Added", TENT), event(T, "Product Viewed", TENT))
    assert looked(both, profile, T) == Evaluation((), T + 2 * HOUR_MS)
    assert looked({"not": both}, profile, T) == Evaluation(("one",), T + 2 * HOUR_MS)
    assert looked({"any": both["all"]}, profile, T) == Evaluation((), T + HOUR_MS)


def test_what_time_cannot_help_sets_no_timer() -> None:
    needs_a_trait = {"all": [CARTED, {"trait": "area", "is": "urban"}, {"score": "churn_30d", "above": 0.5}]}
    assert looked(needs_a_trait, person(event(T, "Product Added", TENT)), T, score=0.9) == Evaluation((), None)


def test_segments_refer_to_others_in_any_order_of_definition() -> None:
    document = {
        "vip": {"any": [{"segment": "rich"}, {"segment": "early"}]},
        "rich": {"all": [{"feature": "revenue", "above": 100}]},
        "early": {"not": {"segment": "late"}},
        "late": {"all": [{"count": "any", "at_least": 1}]},
    }
    profile = person(event(T, "Order Completed", TENT))
    for order in (list(document), sorted(document), sorted(document, reverse=True)):
        segments = read_segments({name: document[name] for name in order})
        assert segments.evaluate(profile, T, score=lambda _: None).inside == ("late", "rich", "vip")
        assert segments.evaluate(EMPTY, T, score=lambda _: None).inside == ("early", "vip")


def test_a_fingerprint_follows_the_definition_and_those_it_refers_to() -> None:
    def prints(level: float, meaning: str = "") -> dict[str, str]:
        base = {"meaning": meaning, "all": [{"feature": "revenue", "above": level}]}
        segments = read_segments({"a": {"all": [{"segment": "b"}]}, "b": base, "c": {"not": {"trait": "x", "is": 1}}})
        return {name: one.fingerprint for name, one in segments.segments.items()}

    before, after = prints(1), prints(2)
    assert before == prints(1, "Other words")
    assert {name for name in before if before[name] != after[name]} == {"a", "b"}


def test_a_segment_says_what_it_reads_through_others_too() -> None:
    segments = read_segments(
        {
            "a": {"all": [{"segment": "b"}, {"trait": "x", "is": 1}]},
            "b": {"any": [{"feature": "orders", "above": 1}, {"score": "churn_30d", "above": 0.5}]},
        },
        scores=("churn_30d", "purchase_7d"),
    )
    a = segments.segments["a"]
    assert [sorted(names) for names in (a.refers, a.features, a.scores, a.traits)] == [
        ["b"],
        ["orders"],
        ["churn_30d"],
        ["x"],
    ]
    assert segments.scores == {"churn_30d"}


def test_a_score_is_asked_for_once_and_only_where_it_matters() -> None:
    asked: list[str] = []
    segments = read_segments(
        {
            "a": {"all": [{"score": "churn_30d", "above": 0.5}]},
            "b": {"all": [{"score": "churn_30d", "below": 0.5}]},
            "c": {"all": [{"score": "other", "below": 0.5}, {"trait": "x", "is": 1}]},
        },
        scores=("churn_30d", "other"),
    )
    segments.evaluate(EMPTY, T, score=asked.append)
    assert asked == ["churn_30d"]


def test_an_explanation_names_each_condition_what_was_found_and_when_it_may_change() -> None:
    segments = read_segments(
        {"a": {"all": [CARTED, {"not": {"trait": "area", "is": "urban"}}, {"feature": "revenue", "above": 500}]}}
    )
    explained = segments.explain("a", person(event(T, "Product Added", TENT)), T, score=lambda _: None)
    assert str(explained).splitlines() == [
        "no  all of",
        "  yes count of events 'Product Added' within 10 minutes at least 1: 1"
        " (may change at 2024-10-04T00:10:00.000Z)",
        "  yes not",
        '    no  trait area is "urban": nothing',
        "  no  feature revenue above 500: 0",
    ]
    with pytest.raises(NotFound, match="no segment 'b'; there are: a"):
        segments.explain("b", EMPTY, T, score=lambda _: None)


def test_no_segments_is_a_configuration_too() -> None:
    assert read_segments({}).evaluate(EMPTY, T, score=lambda _: None) == Evaluation((), None)


def test_the_segments_that_come_with_it_are_good() -> None:
    document = tomllib.loads(Path("config/segments.toml").read_text())
    segments = read_segments(document, scores=("churn_30d",))
    profile = person(event(T, "Product Added", TENT))
    assert segments.evaluate(profile, T, score=lambda _: 0.9).inside == ("at_risk", "cart_abandoner")
