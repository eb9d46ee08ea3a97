"""Entries of segments.toml: what conditions are made of, read with errors that name place, value and way out."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from bespoke.clock import DAY_MS
from bespoke.errors import ConfigError, shown
from bespoke.segments.conditions import NO_FILTER, UNITS, Comparison, ItemFilter, Scalar, is_number

BOUNDS = ("above", "at_least", "below", "at_most")
OPERATORS = (*BOUNDS, "is", "is_not", "one_of", "exists")
FILTERS = ("item", "category", "brand", "price_above", "price_below")
MAX_DURATION_MS = 3650 * DAY_MS
MAX_COUNT = 10_000
MAX_VALUES = 1_000
MAX_TEXT_CHARS = 256
_DURATION = re.compile(r"([1-9][0-9]{0,8}) ([a-z]+?)s?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands, for errors."""

    where: str
    path: str = ""

    def at(self, key: str | int) -> "Place":
        """Return the place of a part."""
        part = f"[{key}]" if isinstance(key, int) else f".{key}" if self.path else key
        return Place(self.where, self.path + part)

    def problem(self, value: Any, expected: str) -> ConfigError:
        """Return the error that something else was expected here."""
        return ConfigError(
            f"{self.where}: {self.path + ': ' if self.path else ''}got {shown(value)}, expected {expected}"
        )


def near(name: Any, names: Collection[str]) -> str | None:
    """Return the known name that a misspelt one most resembles."""
    matches = get_close_matches(str(name).lower(), names, n=1)
    return matches[0] if matches else None


def check_keys(table: Mapping[str, Any], allowed: Sequence[str], place: Place) -> None:
    """Refuse entries that are not known here."""
    for key in table:
        if key not in allowed:
            match = near(key, allowed)
            meant = f"{match!r}, or no such entry" if match else "no such entry"
            raise place.at(key).problem(table[key], f"{meant}; allowed here: {', '.join(allowed)}")


def read_duration(value: Any, place: Place) -> int:
    """Return milliseconds of a duration such as ``"10 minutes"``."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    size = UNITS.get(match.group(2)) if match else None
    if match is None or size is None:
        raise place.problem(value, 'a duration such as "10 minutes", in seconds, minutes, hours, days or weeks')
    if int(match.group(1)) * size > MAX_DURATION_MS:
        raise place.problem(
            value, f"at most {MAX_DURATION_MS // DAY_MS} days; without `within` all that is kept counts"
        )
    return int(match.group(1)) * size


def read_number(value: Any, place: Place, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number within bounds."""
    if not is_number(value) or not math.isfinite(value) or not low <= value <= high:
        bounded = (
            "" if math.isinf(low) else f" from {low:g} to {high:g}" if math.isfinite(high) else f", {low:g} or more"
        )
        raise place.problem(value, f"a number{bounded}")
    return float(value)


def read_names(value: Any, place: Place) -> tuple[str, ...]:
    """Return one text or a list of texts."""
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= MAX_VALUES or not all(isinstance(each, str) and each for each in values):
        raise place.problem(value, f"a text, or a list of 1 to {MAX_VALUES} texts")
    return tuple(sorted(set(values)))


def read_filter(table: Mapping[str, Any], place: Place) -> ItemFilter:
    """Return which lines count."""
    names = {key: read_names(table[key], place.at(key)) for key in FILTERS[:3] if key in table}
    prices = {key: read_number(table[key], place.at(key), low=0) for key in FILTERS[3:] if key in table}
    return ItemFilter(**names, **prices) if names or prices else NO_FILTER  # type: ignore[arg-type]


def read_comparison(
    table: Mapping[str, Any], place: Place, *, kinds: str, low: float = -math.inf, high: float = math.inf
) -> Comparison:
    """Return what a value is held against.

    Args:
        table: the condition.
        place: where it stands.
        kinds: what the value is: ``number``, ``text``, or ``any`` where it may be a number, a text, true or false.
        low: the least number that makes sense.
        high: the greatest.
    """
    operators = [operator for operator in OPERATORS if operator in table]
    allowed = [operator for operator in OPERATORS if kinds != "text" or operator not in BOUNDS]
    if not operators:
        raise place.problem(dict(table), f"a comparison: one of {', '.join(allowed)}")
    for operator in operators:
        if operator not in allowed:
            raise place.at(operator).problem(table[operator], f"one of {', '.join(allowed)}: the value is a text")
    if len(operators) > 1 and not set(operators) <= set(BOUNDS):
        raise place.problem(dict(table), f"one comparison; only {', '.join(BOUNDS)} can be combined")
    comparison = Comparison(
        tuple((each, _operand(each, table[each], place.at(each), kinds, low, high)) for each in operators)
    )
    _check_range(comparison, table, place)
    return comparison


def _operand(operator: str, value: Any, place: Place, kinds: str, low: float, high: float) -> Any:
    if operator == "exists":
        if not isinstance(value, bool):
            raise place.problem(value, "true or false")
        return value
    if operator in BOUNDS:
        return read_number(value, place, low=low, high=high)
    if operator != "one_of":
        return _scalar(value, place, kinds, low, high)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
        raise place.problem(value, f"a list of 1 to {MAX_VALUES} values")
    return tuple(_scalar(each, place.at(n), kinds, low, high) for n, each in enumerate(value))


def _scalar(value: Any, place: Place, kinds: str, low: float, high: float) -> Scalar:
    if kinds == "number" or (kinds == "any" and is_number(value)):
        return read_number(value, place, low=low, high=high)
    if isinstance(value, bool) and kinds == "any":
        return value
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS:
        expected = "a text" if kinds == "text" else "a text, a number, true or false"
        raise place.problem(value, f"{expected} of at most {MAX_TEXT_CHARS} characters")
    return value


def _check_range(comparison: Comparison, table: Mapping[str, Any], place: Place) -> None:
    """Refuse bounds that no number can meet."""
    tests = dict(comparison.tests)
    low = max((tests[name] for name in ("above", "at_least") if name in tests), default=-math.inf)
    high = min((tests[name] for name in ("below", "at_most") if name in tests), default=math.inf)
    closed = tests.get("above") != low and tests.get("below") != high
    if low > high or (low == high and not closed):
        raise place.problem(dict(table), "bounds that some number can meet")


def read_count(table: Mapping[str, Any], place: Place) -> tuple[Comparison, int, int | None]:
    """Return how many events it takes: the comparison, and the least and the greatest number that meet it."""
    operators = [operator for operator in (*BOUNDS, "is") if operator in table]
    if not operators or ("is" in operators and len(operators) > 1):
        raise place.problem(dict(table), f"how many: {', '.join(BOUNDS)}, or is")
    for operator in operators:
        least, value = (1 if operator in ("at_least", "below") else 0), table[operator]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_COUNT:
            raise place.at(operator).problem(value, f"a whole number from {least} to {MAX_COUNT}")
    tests = {operator: int(table[operator]) for operator in operators}
    exactly = tests.get("is")
    low = max(tests.get("at_least", 0), tests.get("above", -1) + 1, 0 if exactly is None else exactly)
    highs = [tests[each] - (each == "below") for each in ("at_most", "below", "is") if each in tests]
    high = min(highs) if highs else None
    if high is not None and low > high:
        raise place.problem(dict(table), "bounds that some count can meet")
    return Comparison(tuple(tests.items())), low, high
