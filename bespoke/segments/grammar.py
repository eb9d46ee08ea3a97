"""The grammar of segments.toml: tables to conditions. What is not in here cannot be written."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bespoke.events import INTERACTION_OF_NAME, SYSTEM_EVENTS
from bespoke.features import FEATURE_OF
from bespoke.profiles import OTHER_LIMIT, RECENT_LIMITS
from bespoke.segments.conditions import (
    ANY,
    All,
    AnyOf,
    Comparison,
    Condition,
    Count,
    FeatureIs,
    InSegment,
    Near,
    Not,
    ScoreIs,
    TraitIs,
)
from bespoke.segments.entries import (
    BOUNDS,
    FILTERS,
    MAX_TEXT_CHARS,
    OPERATORS,
    Place,
    check_keys,
    near,
    read_comparison,
    read_count,
    read_duration,
    read_filter,
    read_number,
)

MAX_DEPTH = 8
"""How deep all, any and not may be nested."""
MAX_PARTS = 200
"""How many parts one list of conditions may have."""
_PLAIN_NAMES = (ANY, "page", "screen")


@dataclass(frozen=True, slots=True)
class Known:
    """The names that conditions may use."""

    scores: Collection[str]
    segments: Collection[str]


def read_condition(table: Any, place: Place, known: Known, *, depth: int = 0) -> Condition:
    """Return the condition of a table.

    Raises:
        ConfigError: names the entry, its value and what is allowed.
    """
    heads = [head for head in _READERS if head in table] if isinstance(table, Mapping) else []
    if len(heads) != 1:
        match = (
            next((m for key in table if (m := near(key, list(_READERS)))), None) if _misspelt(table, heads) else None
        )
        meant = f"; did you mean {match!r}?" if match else ""
        raise place.problem(table, f"a table with exactly one of {', '.join(_READERS)}{meant}")
    if depth > MAX_DEPTH:
        raise place.problem(table, f"conditions nested at most {MAX_DEPTH} deep; give a part a segment of its own")
    return _READERS[heads[0]](table, place, known, depth)


def _misspelt(table: Any, heads: list[str]) -> bool:
    return isinstance(table, Mapping) and not heads


def _parts(head: str) -> Callable[[Mapping[str, Any], Place, Known, int], tuple[Condition, ...]]:
    def read(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> tuple[Condition, ...]:
        check_keys(table, (head,), place)
        parts, at = table[head], place.at(head)
        if not isinstance(parts, list) or not 1 <= len(parts) <= MAX_PARTS:
            raise at.problem(parts, f"a list of 1 to {MAX_PARTS} conditions")
        return tuple(read_condition(part, at.at(n), known, depth=depth + 1) for n, part in enumerate(parts))

    return read


def _not(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("not",), place)
    return Not(read_condition(table["not"], place.at("not"), known, depth=depth + 1))


def _feature(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("feature", *OPERATORS), place)
    name = table["feature"]
    feature = FEATURE_OF.get(name) if isinstance(name, str) else None
    if feature is None:
        match = near(name, list(FEATURE_OF))
        expected = f"a feature such as {match!r}" if match else "the name of a feature"
        raise place.at("feature").problem(name, f"{expected}; see bespoke features list")
    return FeatureIs(feature.name, read_comparison(table, place, kinds=feature.type))


def _score(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("score", *OPERATORS), place)
    name = table["score"]
    if name not in known.scores:
        there = ", ".join(sorted(known.scores)) or "none yet"
        match = near(name, known.scores)
        expected = f"a score such as {match!r}" if match else "the name of a score"
        raise place.at("score").problem(name, f"{expected}; there are: {there} (config/scores/)")
    return ScoreIs(name, read_comparison(table, place, kinds="number", low=0, high=1))


def _trait(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("trait", *OPERATORS), place)
    name = table["trait"]
    if not isinstance(name, str) or not all(name.split(".")) or len(name) > MAX_TEXT_CHARS:
        raise place.at("trait").problem(name, 'the name of a trait such as "city", or a path such as "address.city"')
    return TraitIs(name, read_comparison(table, place, kinds="any"))


def _count(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("count", "within", "of", *BOUNDS, "is", *FILTERS), place)
    name = _event_name(table["count"], place.at("count"))
    item_filter = read_filter(table, place)
    about_items = name in INTERACTION_OF_NAME or bool(item_filter)
    if item_filter and name not in INTERACTION_OF_NAME and name != ANY:
        item_events = ", ".join(INTERACTION_OF_NAME)
        raise place.at("count").problem(name, f"an event about items where items are filtered: any, {item_events}")
    unit = table.get("of", "events")
    if unit not in ("events", "lines") or (unit == "lines" and not about_items):
        raise place.at("of").problem(unit, '"events"; or "lines" where the events are about items')
    within_ms = read_duration(table["within"], place.at("within")) if "within" in table else None
    comparison, low, high = read_count(table, place)
    _check_kept(name, comparison, low, place)
    return Count(name, comparison, low, high, within_ms, item_filter, lines=unit == "lines")


def _check_kept(name: str, comparison: Comparison, low: int, place: Place) -> None:
    """Refuse a number of item events that no profile can hold."""
    interaction = INTERACTION_OF_NAME.get(name)
    limit = OTHER_LIMIT if interaction is None else RECENT_LIMITS.get(interaction, OTHER_LIMIT)
    if interaction is not None and low > limit:
        operator, value = next(test for test in comparison.tests if test[0] in ("at_least", "above", "is"))
        kept = f"a profile keeps the newest {limit} lines of {name!r}"
        raise place.at(operator).problem(value, f"at most {limit - (operator == 'above')}: {kept}")


def _event_name(name: Any, place: Place) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_TEXT_CHARS:
        raise place.problem(name, 'the name of an event such as "Product Viewed", or "any"')
    if name in SYSTEM_EVENTS:
        raise place.problem(name, "an event that people's apps send; what the system says of itself is not counted")
    standard = {_folded(each): each for each in (*INTERACTION_OF_NAME, *_PLAIN_NAMES)}
    standard |= {_folded(kind.value): each for each, kind in INTERACTION_OF_NAME.items()}
    meant = standard.get(_folded(name))
    # Names are free, so a misspelt one cannot be told; one that differs in case or underscores only is no chance.
    if meant is not None and meant != name:
        raise place.problem(name, f"{meant!r}, as the event is called")
    return name


def _folded(name: str) -> str:
    return name.lower().replace("_", " ").strip()


def _near(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("distance_from", "within_km"), place)
    point, at = table["distance_from"], place.at("distance_from")
    if not isinstance(point, list) or len(point) != 2:
        raise at.problem(point, "[latitude, longitude] in degrees")
    latitude, longitude = (
        read_number(point[0], at.at(0), low=-90, high=90),
        read_number(point[1], at.at(1), low=-180, high=180),
    )
    if "within_km" not in table:
        raise place.problem(dict(table), "within_km beside distance_from")
    return Near(latitude, longitude, read_number(table["within_km"], place.at("within_km"), low=0, high=20_100))


def _segment(table: Mapping[str, Any], place: Place, known: Known, depth: int) -> Condition:
    check_keys(table, ("segment",), place)
    name = table["segment"]
    if name not in known.segments:
        match = near(name, known.segments)
        expected = f"a segment such as {match!r}" if match else "the name of another segment of this file"
        raise place.at("segment").problem(name, expected)
    return InSegment(name)


_READERS: Mapping[str, Callable[[Mapping[str, Any], Place, Known, int], Condition]] = {
    "all": lambda *entry: All(_parts("all")(*entry)),
    "any": lambda *entry: AnyOf(_parts("any")(*entry)),
    "not": _not,
    "feature": _feature,
    "score": _score,
    "trait": _trait,
    "count": _count,
    "distance_from": _near,
    "segment": _segment,
}
