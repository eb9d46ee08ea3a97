"""The tracking plan: which events and properties are expected, and what becomes of an event that breaks it.

Source: https://segment.com/docs/protocols/tracking-plan/create/ (what a plan holds).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bespoke.errors import ConfigError, InvalidEvent, shown
from bespoke.events import Event, EventType

FILE = "config/tracking.toml"
MAX_FLAGS = 20
"""More violations than this are not written into one event's context."""
FLAGS_KEY = "violations"
"""Where a flagged event's context says what is wrong with it."""
_ROW = re.compile(r"\[\d+\]")


class Action(StrEnum):
    """What becomes of an event that breaks the plan; the strongest of an event's violations decides."""

    PASS = "pass"
    """Kept as it is; the violation is counted."""
    FLAG = "flag"
    """Kept; the event's context says what is wrong with it."""
    BLOCK = "block"
    """Refused with the reason, and kept as a failed event."""


class Rule(StrEnum):
    """What can be broken."""

    UNPLANNED_EVENT = "unplanned_event"
    UNPLANNED_PROPERTY = "unplanned_property"
    MISSING = "missing"
    TYPE = "type"
    ALLOWED = "allowed"
    BOUNDS = "bounds"


class ValueType(StrEnum):
    """What a property may be. A boolean is no number; a time is ISO 8601 text."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"
    TIME = "time"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PropertyPlan(_Part):
    """What is expected of one property."""

    type: ValueType | None = Field(default=None, description="What it must be; anything if absent.")
    required: bool = Field(default=False, description="Whether an event without it, or with null, breaks the plan.")
    allowed: tuple[str | int | float | bool, ...] | None = Field(default=None, min_length=1, description="Its values.")
    min: float | None = Field(default=None, allow_inf_nan=False, description="Smallest number.")
    max: float | None = Field(default=None, allow_inf_nan=False, description="Largest number.")

    @model_validator(mode="after")
    def _check(self) -> "PropertyPlan":
        if (self.min is not None or self.max is not None) and self.type not in (ValueType.NUMBER, ValueType.INTEGER):
            raise ValueError(f"min and max need type number or integer, got {self.type or 'none'}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class _Actions(_Part):
    on_violation: Action | None = None
    unplanned_properties: Action | None = None


class EventPlan(_Actions):
    """What is expected of the track, page or screen events of one name."""

    properties: dict[str, PropertyPlan] = Field(default_factory=dict)
    product: dict[str, PropertyPlan] = Field(
        default_factory=dict,
        description="Properties of each row of `products`; of the event where it has no such list.",
    )


class TypePlan(_Actions):
    """What is expected of the traits of identify or group messages."""

    traits: dict[str, PropertyPlan] = Field(default_factory=dict)


class Document(_Part):
    """The whole file."""

    on_violation: Action = Field(default=Action.PASS, description="A planned event that is not as planned.")
    unplanned_events: Action = Field(default=Action.PASS, description="An event that no entry names.")
    unplanned_properties: Action = Field(default=Action.PASS, description="A property that its entry does not name.")
    events: dict[str, EventPlan] = Field(default_factory=dict)
    identify: TypePlan | None = None
    group: TypePlan | None = None


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which an event breaks the plan."""

    rule: Rule
    action: Action
    field: str
    """The path in the message, such as ``properties.products[2].price``."""
    value: Any
    allowed: str
    planned: str
    """The property as the plan names it, such as ``products.price``; empty for what is not planned."""

    @property
    def key(self) -> str:
        """What it counts as: the rule, and the property where the plan names it, so that there are few keys."""
        return f"{self.rule}:{self.planned}" if self.planned else self.rule.value

    def to_json(self) -> dict[str, str]:
        """Return what a flagged event carries."""
        return {"rule": self.rule.value, "field": self.field, "value": shown(self.value), "allowed": self.allowed}


class Blocked(InvalidEvent):
    """The plan refuses an event.

    Attributes:
        key: what it counts as, such as ``plan:type:price``.
    """

    def __init__(self, violation: Violation) -> None:
        self.key = f"plan:{violation.key}"
        super().__init__(violation.field, violation.value, f"{violation.allowed}, as {FILE} says")


_Check = Callable[[Any], "tuple[Rule, str] | None"]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is expected of one JSON object; made ready for many of them."""

    checks: Mapping[str, _Check]
    required: tuple[str, ...]
    on_violation: Action
    unplanned: Action
    known: frozenset[str]
    """Names that are not unplanned, whoever looks after them."""
    prefix: str = ""

    def broken(self, row: Mapping[str, Any], path: str) -> Iterable[Violation]:
        """Yield what is wrong with ``row``, which stands at ``path`` of the message."""
        for name in self.required:
            if row.get(name) is None:
                yield self._violation(Rule.MISSING, f"{path}.{name}", None, "a value", name)
        for name, value in row.items():
            check = self.checks.get(name)
            if check is None:
                if name not in self.known:
                    allowed = f"only {', '.join(sorted(self.known)) or 'no properties'}"
                    yield Violation(Rule.UNPLANNED_PROPERTY, self.unplanned, f"{path}.{name}", value, allowed, "")
            elif value is not None and (found := check(value)) is not None:
                yield self._violation(found[0], f"{path}.{name}", value, found[1], name)

    def _violation(self, rule: Rule, field: str, value: Any, allowed: str, name: str) -> Violation:
        return Violation(rule, self.on_violation, field, value, allowed, self.prefix + name)


@dataclass(frozen=True, slots=True)
class _Named:
    """What is expected of one kind of event."""

    own: _Rows
    product: _Rows | None
    """Checks of rows of ``products``."""
    single: _Rows
    """Checks of events without such a list: their properties are the one row."""


class TrackingPlan:
    """Checks events against a plan. It never changes."""

    def __init__(self, document: Document) -> None:
        self._unplanned_events = document.unplanned_events
        self._events = {name: _named(plan, document) for name, plan in document.events.items()}
        given = {EventType.IDENTIFY: document.identify, EventType.GROUP: document.group}
        self._types = {kind: _of_traits(kind, plan, document) for kind, plan in given.items() if plan is not None}

    def check(self, event: Event) -> tuple[Violation, ...]:
        """Return every way in which ``event`` breaks the plan; messages of kinds that no plan covers break none."""
        if event.name is None:
            named = self._types.get(event.type)
            return () if named is None else tuple(named.own.broken(event.traits, "traits"))
        named = self._events.get(event.name)
        if named is None:
            allowed = "an event that the plan names"
            return (Violation(Rule.UNPLANNED_EVENT, self._unplanned_events, "event", event.name, allowed, ""),)
        products = event.properties.get("products")
        if named.product is None or not isinstance(products, list):
            return tuple(named.single.broken(event.properties, "properties"))
        broken = list(named.own.broken(event.properties, "properties"))
        for n, row in enumerate(products):
            if isinstance(row, dict):
                broken += named.product.broken(row, f"properties.products[{n}]")
        return tuple(broken)


def judged(event: Event, violations: Sequence[Violation]) -> Event:
    """Return the event as it is kept: as it is, or with what is flagged in its context.

    Raises:
        Blocked: a violation blocks it; names the first such one.
    """
    flagged = []
    for violation in violations:
        if violation.action is Action.BLOCK:
            raise Blocked(violation)
        if violation.action is Action.FLAG:
            flagged.append(violation.to_json())
    if not flagged:
        return event
    return replace(event, context={**event.context, FLAGS_KEY: flagged[:MAX_FLAGS]})


def reason_key(reason: InvalidEvent) -> str:
    """Return what a refusal counts as: few keys, whatever is sent.

    >>> reason_key(InvalidEvent("properties.products[12].price", "x", "a number"))
    'properties.products[].price'
    """
    return reason.key if isinstance(reason, Blocked) else _ROW.sub("[]", reason.field)


def read_plan(document: Mapping[str, Any]) -> TrackingPlan:
    """Return the plan that the entries of ``config/tracking.toml`` make.

    Raises:
        ConfigError: an entry is unknown or wrong; names it, its value and what is allowed.
    """
    try:
        return TrackingPlan(Document.model_validate(document))
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"tracking plan: {entry}: {first['msg']}, got {shown(first['input'])}; edit {FILE}") from None


def _named(plan: EventPlan, document: Document) -> _Named:
    on_violation = plan.on_violation or document.on_violation
    unplanned = plan.unplanned_properties or document.unplanned_properties

    def rows(properties: Mapping[str, PropertyPlan], *also: str, prefix: str = "") -> _Rows:
        return _rows(properties, on_violation, unplanned, also, prefix)

    product = rows(plan.product, "product_id", prefix="products.") if plan.product else None
    single = rows({**plan.product, **plan.properties}, "products", "product_id")
    return _Named(rows(plan.properties, "products"), product, single)


def _of_traits(kind: EventType, plan: TypePlan, document: Document) -> _Named:
    on_violation = plan.on_violation or document.on_violation
    unplanned = plan.unplanned_properties or document.unplanned_properties
    own = _rows(plan.traits, on_violation, unplanned, ("groupId",) if kind is EventType.GROUP else ())
    return _Named(own, None, own)


def _rows(
    properties: Mapping[str, PropertyPlan],
    on_violation: Action,
    unplanned: Action,
    also: Iterable[str] = (),
    prefix: str = "",
) -> _Rows:
    checks = {name: _check_of(plan) for name, plan in properties.items()}
    required = tuple(name for name, plan in properties.items() if plan.required)
    return _Rows(checks, required, on_violation, unplanned, frozenset([*properties, *also]), prefix)


def _check_of(plan: PropertyPlan) -> _Check:
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
