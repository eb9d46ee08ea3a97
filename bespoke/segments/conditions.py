"""Conditions: what a segment may ask of a profile, as plain values. The grammar is closed; nothing is run as code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, WEEK_MS

UNITS: dict[str, int] = {
    "second": SECOND_MS,
    "minute": MINUTE_MS,
    "hour": HOUR_MS,
    "day": DAY_MS,
    "week": WEEK_MS,
}
"""The units of a duration, in milliseconds."""
ANY = "any"
"""Counts events of every name."""

Scalar: TypeAlias = str | int | float | bool
Found: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a value is held against: every test has to hold. Of what is missing, only ``exists = false`` holds.

    Attributes:
        tests: pairs of an operator (above, at_least, below, at_most, is, is_not, one_of, exists) and its operand.
    """

    tests: tuple[tuple[str, Any], ...]

    @property
    def levels(self) -> tuple[float, ...]:
        """The numbers at which the outcome may change."""
        operands = [each for _, value in self.tests for each in (value if isinstance(value, tuple) else (value,))]
        return tuple(each for each in operands if is_number(each))

    def __str__(self) -> str:
        return " and ".join(_test_text(operator, operand) for operator, operand in self.tests)


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which lines of item events count; an empty part asks for nothing."""

    item: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    brand: tuple[str, ...] = ()
    price_above: float | None = None
    """In the currency of the events; a line without a price is never above or below."""
    price_below: float | None = None

    def __bool__(self) -> bool:
        return self != NO_FILTER

    def __str__(self) -> str:
        named = [
            f"{name} {_names(getattr(self, name))}" for name in ("item", "category", "brand") if getattr(self, name)
        ]
        priced = [
            f"price {name} {getattr(self, 'price_' + name):g}"
            for name in ("above", "below")
            if getattr(self, "price_" + name) is not None
        ]
        return ", ".join(named + priced)


NO_FILTER = ItemFilter()


@dataclass(frozen=True, slots=True)
class FeatureIs:
    """A feature compares so."""

    feature: str
    comparison: Comparison

    def __str__(self) -> str:
        return f"feature {self.feature} {self.comparison}"


@dataclass(frozen=True, slots=True)
class ScoreIs:
    """A score compares so."""

    score: str
    comparison: Comparison

    def __str__(self) -> str:
        return f"score {self.score} {self.comparison}"


@dataclass(frozen=True, slots=True)
class TraitIs:
    """A trait compares so; dots lead into objects."""

    trait: str
    comparison: Comparison

    def __str__(self) -> str:
        return f"trait {self.trait} {self.comparison}"


@dataclass(frozen=True, slots=True)
class Count:
    """So many events (or lines of them) in a window: from ``low`` to ``high``, both included; None: without end."""

    name: str
    comparison: Comparison
    low: int
    high: int | None
    within_ms: int | None
    """None: ever, as far as the profile keeps."""
    filter: ItemFilter = NO_FILTER
    lines: bool = False

    def __str__(self) -> str:
        what = "lines" if self.lines else "events"
        named = f"{what} of any name" if self.name == ANY else f"{what} {self.name!r}"
        filtered = f" ({self.filter})" if self.filter else ""
        window = "" if self.within_ms is None else f" within {duration_text(self.within_ms)}"
        return f"count of {named}{filtered}{window} {self.comparison}"


@dataclass(frozen=True, slots=True)
class Near:
    """The last known location is at most so far from a point."""

    latitude: float
    longitude: float
    within_km: float

    def __str__(self) -> str:
        return f"within {self.within_km:g} km of [{self.latitude:g}, {self.longitude:g}]"


@dataclass(frozen=True, slots=True)
class InSegment:
    """The person is in another segment."""

    segment: str

    def __str__(self) -> str:
        return f"segment {self.segment}"


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: "tuple[Condition, ...]"

    def __str__(self) -> str:
        return "all of"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: "tuple[Condition, ...]"

    def __str__(self) -> str:
        return "any of"


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Condition"

    @property
    def parts(self) -> "tuple[Condition, ...]":
        """The one part."""
        return (self.part,)

    def __str__(self) -> str:
        return "not"


Leaf: TypeAlias = FeatureIs | ScoreIs | TraitIs | Count | Near | InSegment
Condition: TypeAlias = Leaf | All | AnyOf | Not


def leaves(condition: Condition) -> Iterator[Leaf]:
    """Yield the conditions that have no parts."""
    if isinstance(condition, All | AnyOf | Not):
        for part in condition.parts:
            yield from leaves(part)
    else:
        yield condition


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none.

    >>> is_number(1), is_number(True)
    (True, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Found, other: Scalar) -> bool:
    """Whether two plain values are the same; true is not 1.

    >>> same(1, 1.0), same(True, 1)
    (True, False)
    """
    return one == other and isinstance(one, bool) == isinstance(other, bool)


_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "above": lambda value, level: value > level,
    "at_least": lambda value, level: value >= level,
    "below": lambda value, level: value < level,
    "at_most": lambda value, level: value <= level,
}


def outcome(comparison: Comparison) -> Callable[[Found], bool]:
    """Return the check of a value; None and NaN stand for what is missing."""
    tests = [_test(operator, operand) for operator, operand in comparison.tests]
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _test(operator: str, operand: Any) -> Callable[[Found], bool]:
    bound = _BOUNDS.get(operator)
    if bound is not None:
        # What is no number compares as NaN does: never.
        return lambda value: (value.__class__ is float or is_number(value)) and bound(value, operand)
    if operator == "is":
        return lambda value: same(value, operand)
    if operator == "is_not":
        return lambda value: not missing(value) and not same(value, operand)
    if operator == "one_of":
        return lambda value: any(same(value, each) for each in operand)
    return lambda value: missing(value) != operand


def missing(value: Found) -> bool:
    """Whether nothing is known: None or NaN."""
    return value is None or value != value


def duration_text(ms: int) -> str:
    """Return a duration in the largest unit that says it exactly.

    >>> duration_text(7_200_000)
    '2 hours'
    """
    unit, size = next((unit, size) for unit, size in reversed(UNITS.items()) if ms % size == 0)
    return f"{ms // size} {unit}{'s' if ms // size > 1 else ''}"


def _test_text(operator: str, operand: Any) -> str:
    if operator == "exists":
        return "exists" if operand else "does not exist"
    shown = ", ".join(map(_plain, operand)) if isinstance(operand, tuple) else _plain(operand)
    return f"{operator.replace('_', ' ')} {shown}"


def _plain(value: Scalar) -> str:
    return f"{value:.12g}" if isinstance(value, float) else orjson.dumps(value).decode()


def _names(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names[:5]) + (f" or {len(names) - 5} more" if len(names) > 5 else "")
