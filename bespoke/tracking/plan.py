"""Events held against a tracking plan, and what becomes of those that break it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from bespoke.errors import ConfigError, InvalidEvent, shown
from bespoke.events import Event, EventType
from bespoke.parsing import encode_event
from bespoke.tracking.document import Action, Document, EventPlan, PropertyPlan, Rule, TypePlan
from bespoke.tracking.values import Check, check_of

FILE = "config/tracking.toml"
MAX_FLAGS = 20
"""More violations than this are not written into one event's context."""
FLAGS_KEY = "violations"
"""Where a flagged event's context says what is wrong with it."""
_ROW = re.compile(r"\[\d+\]")


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


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is expected of one JSON object; made ready for many of them."""

    checks: Mapping[str, Check]
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


def encode_judged(event: Event, violations: Sequence[Violation]) -> bytes:
    """Return the payload of the event as it is kept; flags for which there is no room in it are left out.

    Raises:
        Blocked: a violation blocks it.
        InvalidEvent: the event itself is too large.
    """
    kept = judged(event, violations)
    if kept is event:
        return encode_event(event)
    try:
        return encode_event(kept)
    except InvalidEvent:
        return encode_event(event)


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
    checks = {name: check_of(plan) for name, plan in properties.items()}
    required = tuple(name for name, plan in properties.items() if plan.required)
    return _Rows(checks, required, on_violation, unplanned, frozenset([*properties, *also]), prefix)
