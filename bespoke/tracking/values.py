"""Checks of single values: type, list of values, bounds."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from bespoke.tracking.document import PropertyPlan, Rule, ValueType

Check = Callable[[Any], tuple[Rule, str] | None]
"""Returns what rule a value breaks, and what would have been allowed; None where it is as planned."""


def check_of(plan: PropertyPlan) -> Check:
    """Return what finds the first thing that is wrong with a value."""
    fits = None if plan.type is None else _FITS[plan.type]
    kind = "" if plan.type is None else _WORDS[plan.type]
    # Kept with their types: JSON's true is not 1.
    values = None if plan.allowed is None else frozenset((_kind(value), value) for value in plan.allowed)
    listed = ", ".join(map(str, plan.allowed or ()))
    low = -math.inf if plan.min is None else plan.min
    high = math.inf if plan.max is None else plan.max
    bounded = plan.min is not None or plan.max is not None
    ends = [f"{word} {end:g}" for word, end in (("at least", low), ("at most", high)) if math.isfinite(end)]

    def check(value: Any) -> tuple[Rule, str] | None:
        if fits is not None and not fits(value):
            return Rule.TYPE, kind
        if values is not None and (isinstance(value, list | dict) or (_kind(value), value) not in values):
            return Rule.ALLOWED, f"one of {listed}"
        if bounded and not low <= value <= high:
            return Rule.BOUNDS, f"a number of {' and '.join(ends)}"
        return None

    return check


def _kind(value: Any) -> type:
    return float if value.__class__ is int else value.__class__


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


_FITS: Mapping[ValueType, Callable[[Any], bool]] = {
    ValueType.STRING: lambda value: value.__class__ is str,
    ValueType.NUMBER: lambda value: value.__class__ in (int, float),
    ValueType.INTEGER: lambda value: value.__class__ is int or (value.__class__ is float and value.is_integer()),
    ValueType.BOOLEAN: lambda value: value.__class__ is bool,
    ValueType.ARRAY: lambda value: value.__class__ is list,
    ValueType.OBJECT: lambda value: value.__class__ is dict,
    ValueType.TIME: _is_time,
}
_WORDS: Mapping[ValueType, str] = {
    ValueType.STRING: "a string",
    ValueType.NUMBER: "a number",
    ValueType.INTEGER: "an integer",
    ValueType.BOOLEAN: "true or false",
    ValueType.ARRAY: "a list",
    ValueType.OBJECT: "a JSON object",
    ValueType.TIME: "an ISO 8601 time such as 2026-01-31T12:00:00Z",
}
