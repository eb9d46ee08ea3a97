"""Rules: what the business wants of a list of recommendations whatever a model says, when it holds, and one action."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from bespoke.events import ItemId
from bespoke.expressions import Expression, Scalar

UTC_ZONE = ZoneInfo("UTC")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Told: TypeAlias = tuple[bool, Scalar]
"""A context's value as it is compared: true is not 1."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One request, as far as rules look at it.

    Attributes:
        at: its time, UTC-aware.
        segments: the segments that the person is in.
        surface: where the list is shown, such as ``home``.
        channel: by which way, such as ``web`` or ``email``.
        context: what the request says besides.
    """

    at: datetime
    segments: Collection[str] = ()
    surface: str | None = None
    channel: str | None = None
    context: Mapping[str, Scalar] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class When:
    """Which requests a rule is for: every part has to hold, and an empty part asks for nothing."""

    segments: frozenset[str] = frozenset()
    """The person is in at least one."""
    not_segments: frozenset[str] = frozenset()
    """The person is in none."""
    surfaces: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    context: tuple[tuple[str, frozenset[Told]], ...] = ()
    """Each key has one of the values."""
    hours: frozenset[int] = frozenset()
    """Hours of the day, 0..23, in :attr:`zone`."""
    weekdays: frozenset[int] = frozenset()
    """Days of the week, Monday is 0, in :attr:`zone`."""
    zone: ZoneInfo = UTC_ZONE

    def holds(self, moment: Moment) -> bool:
        """Return whether a request is meant.

        >>> from datetime import UTC
        >>> When(surfaces=frozenset({"home"})).holds(Moment(datetime(2026, 1, 1, tzinfo=UTC), surface="cart"))
        False
        """
        return (
            (not self.surfaces or moment.surface in self.surfaces)
            and (not self.channels or moment.channel in self.channels)
            and (not self.segments or not self.segments.isdisjoint(moment.segments))
            and (not self.not_segments or self.not_segments.isdisjoint(moment.segments))
            and (not self.context or all(_told(moment.context.get(key)) in values for key, values in self.context))
            and (not (self.hours or self.weekdays) or self._is_open(moment.at))
        )

    def _is_open(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        in_hours = not self.hours or local.hour in self.hours
        return in_hours and (not self.weekdays or local.weekday() in self.weekdays)


ALWAYS = When()


@dataclass(frozen=True, slots=True)
class Pin:
    """Items get fixed places: the first of them ``position``, the others the places after it.

    Either ``items``, in this order, whether a model proposed them or not; or the ``at_most`` best candidates that pass
    ``filter``. What may not be shown is passed over, and the next one takes its place.
    """

    position: int
    """From 1."""
    items: tuple[ItemId, ...] = ()
    filter: Expression | None = None
    at_most: int = 1
    """How many the filter may pin."""

    @property
    def count(self) -> int:
        """How many places it may take."""
        return self.at_most if self.filter else len(self.items)


@dataclass(frozen=True, slots=True)
class Boost:
    """Items that pass the filter are ranked as if their score were so many times as high."""

    filter: Expression
    factor: float
    """More than 1."""


@dataclass(frozen=True, slots=True)
class Bury:
    """Items that pass the filter are ranked as if their score were only this share of it."""

    filter: Expression
    factor: float
    """From 0 to less than 1; 0 puts them at the end."""


@dataclass(frozen=True, slots=True)
class Exclude:
    """Items that pass the filter are not shown."""

    filter: Expression


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many items of a kind in a list; the best of them stay."""

    at_most: int
    filter: Expression | None = None
    """Items that pass it are the kind."""
    per: Literal["category", "brand"] | None = None
    """Each narrowest category, or each brand, is a kind of its own; items that have none are not capped."""


@dataclass(frozen=True, slots=True)
class Require:
    """Only items that pass the filter are shown; or, with a number, at least so many of the places go to them."""

    filter: Expression
    at_least: int | None = None
    share: float | None = None
    """The number as a share of the places, 0..1; rounded up."""

    @property
    def is_gate(self) -> bool:
        """Whether nothing else is shown."""
        return self.at_least is None and self.share is None

    def places(self, num_results: int) -> int:
        """Return how many of ``num_results`` places it asks for.

        >>> from bespoke.expressions import parse_expression
        >>> Require(parse_expression("brand == 'Own'"), share=0.1).places(30)
        3
        """
        if self.at_least is not None:
            return min(self.at_least, num_results)
        # The tiny step back keeps 0.1 x 30 from being 4: the product is a hair above 3 in binary.
        return math.ceil((self.share or 0.0) * num_results - 1e-9)


Action: TypeAlias = Pin | Boost | Bury | Exclude | Cap | Require


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of config/rules.toml."""

    name: str
    action: Action
    meaning: str = ""
    when: When = ALWAYS
    starts: datetime | None = None
    """UTC-aware; holds from this moment on."""
    ends: datetime | None = None
    """UTC-aware; does not hold from this moment on."""
    priority: int = 0
    """Of rules with the same action the higher one goes first; of equal ones the one that is written first."""
    enabled: bool = True

    @property
    def kind(self) -> str:
        """The action's name in the file."""
        return type(self.action).__name__.lower()

    @property
    def filter(self) -> Expression | None:
        """The items that it is about, where an expression says so."""
        return self.action.filter

    @property
    def is_gate(self) -> bool:
        """Whether it decides what may be shown at all."""
        return isinstance(self.action, Exclude) or (isinstance(self.action, Require) and self.action.is_gate)

    def holds(self, moment: Moment) -> bool:
        """Return whether it is in force for a request."""
        return (
            self.enabled
            and (self.starts is None or self.starts <= moment.at)
            and (self.ends is None or moment.at < self.ends)
            and (self.when is ALWAYS or self.when.holds(moment))
        )


def told(value: Scalar) -> Told:
    """Return a context's value as it is compared."""
    return isinstance(value, bool), value


def _told(value: Scalar | None) -> Told | None:
    return None if value is None else told(value)
