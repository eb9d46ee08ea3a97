"""The grammar of rules.toml: tables to rules. What is not in here cannot be written."""

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bespoke.errors import ConfigError
from bespoke.events import ItemId
from bespoke.expressions import Expression, ExpressionError, Scalar, parse_expression
from bespoke.rules.rule import (
    ALWAYS,
    UTC_ZONE,
    WEEKDAYS,
    Action,
    Boost,
    Bury,
    Cap,
    Exclude,
    Pin,
    Require,
    Rule,
    Told,
    When,
    told,
)
from bespoke.segments.entries import Place, check_keys, near, read_names, read_number

FILE = "config/rules.toml"
MAX_RULES = 500
MAX_POSITION = 100
"""No list is longer."""
MAX_PINNED = 100
MAX_FACTOR = 1_000.0
MAX_PRIORITY = 1_000
MAX_MEANING_CHARS = 500
MAX_CONTEXT_KEYS = 20
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_ABOUT = ("meaning", "when", "starts", "ends", "priority", "enabled")
_WHEN = ("segment", "not_segment", "surface", "channel", "context", "hours", "weekdays", "time_zone")
_PER = ("category", "brand")


def load_rules(toml_text: str, *, where: str = FILE) -> tuple[Rule, ...]:
    """Return the rules of a TOML text: one table per rule, named after it.

    Raises:
        ConfigError: names the file, the rule, the entry, its value and what is allowed.
    """
    try:
        tables = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None
    return parse_rules(tables, where=where)


def parse_rules(tables: Mapping[str, Any], *, where: str = FILE) -> tuple[Rule, ...]:
    """Return the rules of plain values, in the order in which they are written.

    Raises:
        ConfigError: as :func:`load_rules` does.
    """
    if len(tables) > MAX_RULES:
        raise Place(where).problem(f"{len(tables)} rules", f"at most {MAX_RULES}")
    return tuple(_rule(name, table, Place(f"{where}: {name}")) for name, table in tables.items())


def _rule(name: str, table: Any, place: Place) -> Rule:
    if not _NAME.fullmatch(name):
        raise place.problem(name, "a name of small letters, digits, - and _ that begins with a letter, at most 64 long")
    if not isinstance(table, Mapping):
        raise place.problem(table, f"a table [{name}]")
    check_keys(table, (*_ABOUT, *_ACTIONS), place)
    starts, ends = (_time(table[key], place.at(key)) if key in table else None for key in ("starts", "ends"))
    if starts and ends and ends <= starts:
        raise place.at("ends").problem(ends.isoformat(), f"a time after starts, which is {starts.isoformat()}")
    return Rule(
        name=name,
        action=_action(table, place),
        meaning=_meaning(table.get("meaning", ""), place.at("meaning")),
        when=_when(table["when"], place.at("when")) if "when" in table else ALWAYS,
        starts=starts,
        ends=ends,
        priority=_whole(table.get("priority", 0), place.at("priority"), low=-MAX_PRIORITY, high=MAX_PRIORITY),
        enabled=_truth(table.get("enabled", True), place.at("enabled")),
    )


def _meaning(value: Any, place: Place) -> str:
    if not isinstance(value, str) or len(value) > MAX_MEANING_CHARS:
        raise place.problem(value, f"a text of at most {MAX_MEANING_CHARS} characters")
    return value


def _time(value: Any, place: Place) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise place.problem(str(value), "a time with its zone, without quotes, such as 2026-12-01T00:00:00+01:00")
    return value.astimezone(UTC)


def _truth(value: Any, place: Place) -> bool:
    if not isinstance(value, bool):
        raise place.problem(value, "true or false")
    return value


def _whole(value: Any, place: Place, *, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise place.problem(value, f"a whole number from {low} to {high}")
    return value


def _table(value: Any, place: Place, allowed: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise place.problem(value, f"a table with some of {', '.join(allowed)}")
    check_keys(value, allowed, place)
    return value


def _when(value: Any, place: Place) -> When:
    table = _table(value, place, _WHEN)
    names = {key: frozenset(read_names(table[key], place.at(key))) for key in _WHEN[:4] if key in table}
    segments, not_segments = names.get("segment", frozenset()), names.get("not_segment", frozenset())
    if segments and segments <= not_segments:
        raise place.at("not_segment").problem(sorted(not_segments), "others than those of segment, or nobody is meant")
    if "time_zone" in table and not {"hours", "weekdays"} & set(table):
        raise place.at("time_zone").problem(table["time_zone"], "hours or weekdays beside it")
    return When(
        segments=segments,
        not_segments=not_segments,
        surfaces=names.get("surface", frozenset()),
        channels=names.get("channel", frozenset()),
        context=_context(table["context"], place.at("context")) if "context" in table else (),
        hours=_hours(table["hours"], place.at("hours")) if "hours" in table else frozenset(),
        weekdays=_weekdays(table["weekdays"], place.at("weekdays")) if "weekdays" in table else frozenset(),
        zone=_zone(table["time_zone"], place.at("time_zone")) if "time_zone" in table else UTC_ZONE,
    )


def _context(value: Any, place: Place) -> tuple[tuple[str, frozenset[Told]], ...]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_CONTEXT_KEYS:
        raise place.problem(value, f'a table of 1 to {MAX_CONTEXT_KEYS} keys such as {{ country = ["NO", "SE"] }}')
    return tuple((key, _told_values(value[key], place.at(key))) for key in sorted(value))


def _told_values(value: Any, place: Place) -> frozenset[Told]:
    values: list[Scalar] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(each, str | int | float) for each in values):
        raise place.problem(value, "a text, a number, true or false, or a list of such")
    return frozenset(map(told, values))


def _hours(value: Any, place: Place) -> frozenset[int]:
    if not isinstance(value, list) or len(value) != 2:
        raise place.problem(value, "[from, to] in whole hours such as [9, 17]: from 9:00 until just before 17:00")
    start = _whole(value[0], place.at(0), low=0, high=23)
    end = _whole(value[1], place.at(1), low=0, high=24)
    if start == end:
        raise place.problem(value, "two different hours; leave hours out for the whole day")
    return frozenset(hour % 24 for hour in range(start, end if end > start else end + 24))


def _weekdays(value: Any, place: Place) -> frozenset[int]:
    days = read_names(value, place)
    for day in days:
        if day not in WEEKDAYS:
            match = near(day[:3], WEEKDAYS)
            raise place.problem(day, f"{match!r}" if match else f"some of {', '.join(WEEKDAYS)}")
    return frozenset(WEEKDAYS.index(day) for day in days)


def _zone(value: Any, place: Place) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise place.problem(value, 'the name of a time zone such as "Europe/Berlin"') from None


def _action(table: Mapping[str, Any], place: Place) -> Action:
    heads = [head for head in _ACTIONS if head in table]
    if len(heads) != 1:
        raise place.problem(heads or "no action", f"exactly one of {', '.join(_ACTIONS)}")
    return _ACTIONS[heads[0]](table[heads[0]], place.at(heads[0]))


def _filter(table: Mapping[str, Any], place: Place) -> Expression:
    at, text = place.at("filter"), table.get("filter")
    if not isinstance(text, str):
        raise at.problem(text, "a filter such as \"category == 'Dairy' and price < 5\"")
    try:
        expression = parse_expression(text)
    except ExpressionError as error:
        raise ConfigError(f"{at.where}: {at.path}: {error}") from None
    if expression.parameters:
        names = ", ".join(f"${name}" for name in sorted(expression.parameters))
        raise at.problem(names, "values: parameters come with requests, and rules do not see them")
    return expression


def _one_of(table: Mapping[str, Any], place: Place, names: tuple[str, ...]) -> str:
    given = [name for name in names if name in table]
    if len(given) != 1:
        raise place.problem(dict(table), f"exactly one of {', '.join(names)}")
    return given[0]


def _pin(value: Any, place: Place) -> Pin:
    table = _table(value, place, ("items", "filter", "position", "at_most"))
    position = _whole(table.get("position", 1), place.at("position"), low=1, high=MAX_POSITION)
    if _one_of(table, place, ("items", "filter")) == "filter":
        at_most = _whole(table.get("at_most", 1), place.at("at_most"), low=1, high=MAX_PINNED)
        return Pin(position, filter=_filter(table, place), at_most=at_most)
    if "at_most" in table:
        raise place.at("at_most").problem(table["at_most"], "no such entry beside items: each of them is pinned")
    return Pin(position, items=_items(table["items"], place.at("items")))


def _items(value: Any, place: Place) -> tuple[ItemId, ...]:
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_PINNED or not all(isinstance(each, str) and each for each in values):
        raise place.problem(value, f"a list of 1 to {MAX_PINNED} item ids, each a text")
    repeated = sorted({each for each in values if values.count(each) > 1})
    if repeated:
        raise place.problem(repeated[0], "each item once")
    return tuple(map(ItemId, values))


def _boost(value: Any, place: Place) -> Boost:
    table = _table(value, place, ("filter", "factor"))
    return Boost(_filter(table, place), _factor(table, place, low=1.0, high=MAX_FACTOR, advice="bury makes it less"))


def _bury(value: Any, place: Place) -> Bury:
    table = _table(value, place, ("filter", "factor"))
    return Bury(_filter(table, place), _factor(table, place, low=0.0, high=1.0, advice="boost makes it more"))


def _factor(table: Mapping[str, Any], place: Place, *, low: float, high: float, advice: str) -> float:
    at = place.at("factor")
    factor = read_number(table.get("factor"), at, low=low, high=high)
    if factor == 1.0:
        raise at.problem(table["factor"], f"another factor than 1, which changes nothing; {advice}")
    return factor


def _exclude(value: Any, place: Place) -> Exclude:
    return Exclude(_filter(_table(value, place, ("filter",)), place))


def _cap(value: Any, place: Place) -> Cap:
    table = _table(value, place, ("filter", "per", "at_most"))
    at_most = _whole(table.get("at_most"), place.at("at_most"), low=1, high=MAX_POSITION)
    if _one_of(table, place, ("filter", "per")) == "filter":
        return Cap(at_most, filter=_filter(table, place))
    return Cap(at_most, per=_per(table["per"], place.at("per")))


def _per(value: Any, place: Place) -> Literal["category", "brand"]:
    if value not in _PER:
        raise place.problem(value, " or ".join(f'"{each}"' for each in _PER))
    return "category" if value == "category" else "brand"


def _require(value: Any, place: Place) -> Require:
    table = _table(value, place, ("filter", "at_least", "share"))
    expression = _filter(table, place)
    if "at_least" in table and "share" in table:
        raise place.problem(dict(table), "at_least or share, not both")
    if "at_least" in table:
        at_least = _whole(table["at_least"], place.at("at_least"), low=1, high=MAX_POSITION)
        return Require(expression, at_least=at_least)
    if "share" not in table:
        return Require(expression)
    share = read_number(table["share"], place.at("share"), low=0.0, high=1.0)
    if share == 0.0:
        raise place.at("share").problem(table["share"], "more than 0; without at_least and share nothing else is shown")
    return Require(expression, share=share)


_ACTIONS: Mapping[str, Callable[[Any, Place], Action]] = MappingProxyType(
    {"pin": _pin, "boost": _boost, "bury": _bury, "exclude": _exclude, "cap": _cap, "require": _require}
)
