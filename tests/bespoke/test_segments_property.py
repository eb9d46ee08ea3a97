"""Segments against a plain reading of the list of events, at every time at which anything could change."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.events import INTERACTION_OF_NAME, Event, EventType, ItemId, Line, MessageId
from bespoke.features import FEATURE_OF, Reading
from bespoke.profiles import EMPTY, Profile, fold
from bespoke.segments import read_segments

T = 20_000 * DAY_MS
WINDOWS = {
    "10 minutes": 10 * MINUTE_MS,
    "2 hours": 2 * HOUR_MS,
    "1 day": DAY_MS,
    "7 days": 7 * DAY_MS,
    "3 weeks": 21 * DAY_MS,
}
ITEM_NAMES = ("Product Viewed", "Product Added", "Order Completed")
OTHER_NAMES = ("page", "Quiz Taken")
FEATURES = (
    "recency_days",
    "revenue",
    "views_7d",
    "carts_1h",
    "purchases_decayed",
    "cart_items",
    "cart_minutes",
    "in_session",
)
SCORES: Mapping[str, float | None] = {"churn_30d": 0.4, "purchase_7d": None}
HORIZON_MS = 40 * DAY_MS
NEVER = math.inf


def event(ago_ms: int, name: str, items: Sequence[tuple[str, str, float | None]], trait: int | None) -> Event:
    kind = EventType.IDENTIFY if trait is not None else EventType.PAGE if name == "page" else EventType.TRACK
    about_items = kind is EventType.TRACK and name in ITEM_NAMES
    return Event(
        message_id=MessageId("m"),
        type=kind,
        name=name if kind is EventType.TRACK else None,
        user_id="u",
        anonymous_id=None,
        at_ms=T - ago_ms,
        received_ms=T,
        traits={} if trait is None else {"x": trait, "deep": {"y": trait}},
        lines=tuple(Line(ItemId(i), 1.0, price, c) for i, c, price in items) if about_items else (),
    )


agos = st.sampled_from([0, 1, 60_000, HOUR_MS, DAY_MS]) | st.integers(0, 3 * HOUR_MS) | st.integers(0, 30 * DAY_MS)
items = st.tuples(st.sampled_from("ab"), st.sampled_from(["c", "d"]), st.sampled_from([None, 1.0, 5.0]))
events = st.builds(
    event,
    agos,
    st.sampled_from(ITEM_NAMES + OTHER_NAMES),
    st.lists(items, min_size=1, max_size=3),
    st.none() | st.none() | st.none() | st.integers(0, 2),
)

bounds = st.sampled_from(["above", "at_least", "below", "at_most", "is"])
numbers = st.sampled_from([0, 1, 2, 3, 0.5, 5])


def comparison(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return (
        st.builds(lambda operator, value: {operator: value}, bounds | st.just("is_not"), values)
        | st.lists(values, min_size=1, max_size=2).map(lambda of: {"one_of": of})
        | st.booleans().map(lambda value: {"exists": value})
    )


def counts(names: Sequence[str], filters: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda name, operator, number, window, more: {
            "count": name,
            operator: max(number, 1) if operator in ("at_least", "below") else number,
            **({"within": window} if window else {}),
            **more,
        },
        st.sampled_from(names),
        bounds,
        st.integers(0, 3),
        st.none() | st.sampled_from(sorted(WINDOWS)),
        filters,
    )


filters = st.fixed_dictionaries(
    {},
    optional={
        "item": st.sampled_from(["a", ["a", "b"]]),
        "category": st.sampled_from(["c", ["c", "d"]]),
        "price_above": st.sampled_from([0, 1]),
        "price_below": st.sampled_from([2, 5]),
        "of": st.just("events"),
    },
)
some_filter = filters.filter(lambda asked: set(asked) - {"of"})
leaf = (
    counts(ITEM_NAMES, filters | filters.map(lambda asked: {**asked, "of": "lines"}))
    | counts(["any"], some_filter | some_filter.map(lambda asked: {**asked, "of": "lines"}))
    | counts((*OTHER_NAMES, "any"), st.just({}))
    | st.builds(lambda name, test: {"feature": name, **test}, st.sampled_from(FEATURES), comparison(numbers))
    | st.builds(lambda name, test: {"trait": name, **test}, st.sampled_from(["x", "deep.y", "z"]), comparison(numbers))
    | st.builds(
        lambda name, test: {"score": name, **test},
        st.sampled_from(sorted(SCORES)),
        comparison(st.sampled_from([0, 0.4, 1])),
    )
)
condition = st.recursive(
    leaf,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts})
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts})
        | inner.map(lambda part: {"not": part})
    ),
    max_leaves=5,
)
documents = st.lists(condition, min_size=1, max_size=4).map(
    lambda each: {
        # Each refers to the one before it, so that membership is a condition too.
        f"s{n}": {"any": [one, {"all": [{"segment": f"s{n - 1}"}, {"not": one}]}]} if n else {"all": [one]}
        for n, one in enumerate(each)
    }
)


def kind_of(one: Event) -> str:
    return one.name if one.type is EventType.TRACK and one.name else one.type.value


def compares(test: Mapping[str, Any], value: Any) -> bool:
    missing = value is None or value != value
    checks: Mapping[str, Callable[[Any], bool]] = {
        "above": lambda level: value > level,
        "at_least": lambda level: value >= level,
        "below": lambda level: value < level,
        "at_most": lambda level: value <= level,
        "is": lambda level: value == level,
        "is_not": lambda level: value != level,
        "one_of": lambda levels: value in levels,
    }
    if "exists" in test:
        return missing is not test["exists"]
    return not missing and all(checks[name](test[name]) for name in checks if name in test)


def counted(asked: Mapping[str, Any], happened: Sequence[Event], at_ms: int) -> int:
    """Count straight from the events: exact where they have items, by whole minutes, hours or days where not."""
    window_ms = WINDOWS.get(asked.get("within", ""))
    size = (
        MINUTE_MS
        if window_ms and window_ms <= 2 * HOUR_MS
        else HOUR_MS
        if window_ms and window_ms <= 8 * DAY_MS
        else DAY_MS
    )
    filtered = any(key in asked for key in ("item", "category", "brand", "price_above", "price_below"))
    found: list[tuple[int, str]] = []
    for one in happened:
        if asked["count"] not in ("any", kind_of(one)) or (filtered and not one.lines):
            continue
        leaves_at = one.at_ms if one.lines else (one.at_ms // size + 1) * size
        if window_ms is not None and leaves_at + window_ms <= at_ms:
            continue
        lines = [line for line in one.lines if passes(asked, line)] if one.lines else [None]
        found += [(one.at_ms if one.lines else -1 - len(found), kind_of(one))] * len(lines)
    # Messages of one interaction at the very same moment are one to a profile.
    return len(found) if asked.get("of") == "lines" else len(set(found))


def passes(asked: Mapping[str, Any], line: Line) -> bool:
    def named(key: str, value: str | None) -> bool:
        return key not in asked or value in (asked[key] if isinstance(asked[key], list) else [asked[key]])

    above, below = asked.get("price_above"), asked.get("price_below")
    return (
        named("item", line.item_id)
        and named("category", line.category)
        and (above is None or (line.price is not None and line.price > above))
        and (below is None or (line.price is not None and line.price < below))
    )


class Oracle:
    """Who is inside, by the letter of the document."""

    def __init__(self, document: Mapping[str, Any], happened: Sequence[Event], profile: Profile) -> None:
        self.document, self.happened, self.profile = document, happened, profile

    def inside(self, at_ms: int) -> tuple[str, ...]:
        return tuple(name for name in sorted(self.document) if self.holds(self.document[name], at_ms))

    def holds(self, asked: Mapping[str, Any], at_ms: int) -> bool:
        if "all" in asked:
            return all([self.holds(part, at_ms) for part in asked["all"]])
        if "any" in asked:
            return any([self.holds(part, at_ms) for part in asked["any"]])
        if "not" in asked:
            return not self.holds(asked["not"], at_ms)
        if "segment" in asked:
            return self.holds(self.document[asked["segment"]], at_ms)
        if "count" in asked:
            return compares(asked, counted(asked, self.happened, at_ms))
        if "feature" in asked:
            return compares(asked, FEATURE_OF[asked["feature"]].of(Reading(self.profile, at_ms)))
        return compares(asked, SCORES[asked["score"]] if "score" in asked else self.trait(asked["trait"]))

    def trait(self, path: str) -> Any:
        said = [(one.at_ms, orjson.dumps(one.traits["x"]).decode()) for one in self.happened if one.traits]
        return int(max(said)[1]) if said and path != "z" else None


def edges(happened: Sequence[Event], start_ms: int) -> list[int]:
    """Return when an event, or its minute, hour or day, leaves a window or a feature, a moment before and after."""
    ends = {start_ms, start_ms + HORIZON_MS}
    for one in happened:
        for size in (1, MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS):
            end_ms = one.at_ms if size == 1 else (one.at_ms // size + 1) * size
            windows = (
                *WINDOWS.values(),
                MINUTE_MS,
                30 * MINUTE_MS,
                HOUR_MS,
                30 * DAY_MS,
                DAY_MS // 2,
                2 * DAY_MS,
                3 * DAY_MS,
                5 * DAY_MS,
            )
            ends |= {end_ms + window for window in windows}
    near = {end + step for end in ends for step in (-1, 0, 1)}
    grid = range(start_ms, start_ms + HORIZON_MS, 8 * HOUR_MS + 12_345)
    return sorted(at_ms for at_ms in {*near, *grid} if start_ms <= at_ms <= start_ms + HORIZON_MS)


@settings(max_examples=150, deadline=None)
@given(st.lists(events, max_size=8), documents)
def test_memberships_and_their_next_change_agree_with_the_events(
    happened: list[Event], document: dict[str, Any]
) -> None:
    profile = EMPTY
    for one in happened:
        profile = fold(profile, one)
    segments, oracle = read_segments(document, scores=SCORES), Oracle(document, happened, profile)
    now, steps, until = max((one.at_ms for one in happened), default=T), 0, -NEVER
    for at_ms in edges(happened, now):
        while at_ms >= until:
            found = segments.evaluate(profile, max(now, int(until)) if until != -NEVER else now, score=SCORES.get)
            assert found.next_change_ms is None or found.next_change_ms > until
            until, steps = found.next_change_ms or NEVER, steps + 1
        assert found.inside == oracle.inside(at_ms), at_ms
        assert segments.evaluate(profile, at_ms, score=SCORES.get).inside == found.inside
    # One step a day where a score is read, and a few for each event and condition.
    assert steps <= 45 + 40 * (len(happened) + 1)


@given(st.lists(events, max_size=6), documents, st.randoms(use_true_random=False))
def test_the_order_of_definition_changes_nothing(happened: list[Event], document: dict[str, Any], rng: Any) -> None:
    profile = EMPTY
    for one in happened:
        profile = fold(profile, one)
    names = list(document)
    rng.shuffle(names)
    given_so, shuffled = (read_segments({n: document[n] for n in order}, scores=SCORES) for order in (document, names))
    assert shuffled.evaluate(profile, T, score=SCORES.get) == given_so.evaluate(profile, T, score=SCORES.get)
    assert shuffled.segments == given_so.segments


@given(st.lists(events, max_size=6), documents)
def test_an_explanation_agrees_with_the_evaluation(happened: list[Event], document: dict[str, Any]) -> None:
    profile = EMPTY
    for one in happened:
        profile = fold(profile, one)
    segments = read_segments(document, scores=SCORES)
    found = segments.evaluate(profile, T, score=SCORES.get)
    explained = {name: segments.explain(name, profile, T, score=SCORES.get) for name in segments.names}
    assert found.inside == tuple(name for name, why in explained.items() if why.holds)
    changes = [why.next_change_ms for why in explained.values() if why.next_change_ms is not None]
    assert found.next_change_ms == min(changes, default=None)


def test_the_names_here_are_those_of_the_grammar() -> None:
    assert set(ITEM_NAMES) <= set(INTERACTION_OF_NAME)
