"""What a feature is: its name, meaning and unit, how it is derived, and when time alone changes it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bespoke.clock import DAY_MS
from bespoke.features.decay import HALF_LIFE_DAYS
from bespoke.features.reading import Reading

Value = float | str | None
Derive = Callable[[Reading], Any]
Moves = Callable[[Reading, float, float | None], int | None]
"""Reading, present value, level -> when time alone may change on which side of the level the value is."""


class FeatureType(StrEnum):
    """What values a feature takes."""

    NUMBER = "number"
    TEXT = "text"


class SourceType(StrEnum):
    """What a feature tells of a person."""

    BEHAVIOURAL = "behavioural"
    """What the person did."""
    DEMOGRAPHIC = "demographic"
    """Who the person is, as was said."""
    CONTEXTUAL = "contextual"
    """Where, when and with what."""


def still(reading: Reading, value: float, level: float | None) -> int | None:
    """Only events change the value."""
    return None


def ages(then: Callable[[Reading], int | None], unit_ms: float) -> Moves:
    """The value grows by 1 every ``unit_ms`` from ``then(reading)`` on, which may lie ahead: clocks differ."""

    def moves(reading: Reading, value: float, level: float | None) -> int | None:
        then_ms = then(reading)
        if then_ms is None or (level is not None and value > level):
            return None
        grows_from_ms = max(then_ms, reading.at_ms)
        return grows_from_ms + (1 if level is None else max(math.floor((level - value) * unit_ms), 1))

    return moves


def fades(reading: Reading, value: float, level: float | None) -> int | None:
    """The value halves every ``HALF_LIFE_DAYS``."""
    if not value > 0:
        return None
    if level is None:
        return reading.at_ms + 1
    if level <= 0 or value < level:
        return None
    return reading.at_ms + max(math.floor(math.log2(value / level) * HALF_LIFE_DAYS * DAY_MS), 1)


def leaves(when: Callable[[Reading], int | None]) -> Moves:
    """The value changes at ``when(reading)`` at the earliest."""

    def moves(reading: Reading, value: float, level: float | None) -> int | None:
        at_ms = when(reading)
        return None if at_ms is None else max(at_ms, reading.at_ms + 1)

    return moves


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature."""

    name: str
    meaning: str
    unit: str
    derive: Derive
    moves: Moves = still
    type: FeatureType = FeatureType.NUMBER
    source: SourceType = SourceType.BEHAVIOURAL

    def of(self, reading: Reading) -> Value:
        """Return a number, NaN where there is nothing to derive it from, or a text, None where there is none."""
        value: Value = self.derive(reading)
        return value

    def next_change_ms(self, reading: Reading, level: float | None = None) -> int | None:
        """Return when, without new events, the value may first cross ``level``, or change at all; None: never.

        It may be too early, never too late; it is later than the reading.
        """
        value = self.derive(reading) if self.type is FeatureType.NUMBER else math.nan
        return self.moves(reading, value, level)
