"""Checks: conditions compiled to functions that say whether a condition holds, and until when at least.

A check returns the earliest time at which time alone may change its outcome, with a sign: positive where the
condition holds, negative where it does not. So `all` is the smallest of its parts, `any` the greatest, and `not` the
negative: of a failing `all`, the part that fails for longest decides, and of one that holds, the part that may fail
first.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bespoke.clock import DAY_MS
from bespoke.features import FEATURE_OF
from bespoke.segments.conditions import (
    All,
    AnyOf,
    Condition,
    Count,
    FeatureIs,
    InSegment,
    Near,
    Not,
    ScoreIs,
    TraitIs,
    missing,
    outcome,
)
from bespoke.segments.look import Counted, Look, counted

NEVER = 2**62
"""The time of what time alone does not change."""
SCORE_LOOK_MS = DAY_MS
"""How long a score may stand before it is looked at again: it moves with time, and nobody can say when."""
EARTH_KM = 6371.0088
"""Mean radius of the earth."""

Check = Callable[[Look], int]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition with its check.

    Attributes:
        condition: what it is.
        check: whether it holds, and until when.
        found: what it finds in a profile, as text; None where the parts say it.
        parts: what it is made of.
    """

    condition: Condition
    check: Check
    found: Callable[[Look], str] | None = None
    parts: "tuple[Compiled, ...]" = ()


@dataclass(frozen=True, slots=True)
class Slots:
    """Places in what a look keeps.

    Attributes:
        counted: everything that is counted; grows while conditions are compiled.
        segment: the place of each segment among those evaluated before.
    """

    counted: dict[Counted, int]
    segment: Mapping[str, int]


def compiled(condition: Condition, slots: Slots) -> Compiled:
    """Return a condition with its check."""
    match condition:
        case All(parts):
            return _joined(condition, [compiled(part, slots) for part in parts], _every)
        case AnyOf(parts):
            return _joined(condition, [compiled(part, slots) for part in parts], _some)
        case Not(part):
            inner = compiled(part, slots)
            return Compiled(condition, _negated(inner.check), parts=(inner,))
        case Count():
            return _count(condition, slots.counted.setdefault(counted(condition), len(slots.counted)))
        case FeatureIs():
            return _feature(condition)
        case ScoreIs():
            return _score(condition)
        case TraitIs():
            return _trait(condition)
        case Near():
            return _near(condition)
        case InSegment(name):
            return _segment(condition, slots.segment[name])


def signed(holds: bool, until_ms: int) -> int:
    """Return an outcome as checks do."""
    return until_ms if holds else -until_ms


_COST: Mapping[type[Any], int] = {InSegment: 0, TraitIs: 1, Near: 1, Count: 2, FeatureIs: 3, ScoreIs: 5}


def _cost(one: Compiled) -> int:
    """Return what to check first: what is cheap, and scores last."""
    return max((_cost(part) for part in one.parts), default=_COST.get(type(one.condition), 4))


def _joined(condition: Condition, parts: list[Compiled], join: Callable[[Sequence[Check]], Check]) -> Compiled:
    checks = [part.check for part in sorted(parts, key=_cost)]
    return Compiled(condition, join(checks) if len(checks) > 1 else checks[0], parts=tuple(parts))


def _every(checks: Sequence[Check]) -> Check:
    def check(look: Look) -> int:
        least = NEVER
        for each in checks:
            until = each(look)
            if until < least:
                # Nothing is below: it fails, and time will not help.
                if until == -NEVER:
                    return until
                least = until
        return least

    return check


def _some(checks: Sequence[Check]) -> Check:
    def check(look: Look) -> int:
        most = -NEVER
        for each in checks:
            until = each(look)
            if until > most:
                if until == NEVER:
                    return until
                most = until
        return most

    return check


def _negated(inner: Check) -> Check:
    return lambda look: -inner(look)


def _count(condition: Count, slot: int) -> Compiled:
    low, within_ms = condition.low, condition.within_ms
    high = NEVER if condition.high is None else condition.high

    def number(look: Look) -> int:
        times = look.times(slot)
        return len(times) if within_ms is None else len(times) - bisect_right(times, look.at_ms - within_ms)

    def check(look: Look) -> int:
        times = look.times(slot)
        if within_ms is None:
            return NEVER if low <= len(times) <= high else -NEVER
        count = len(times) - bisect_right(times, look.at_ms - within_ms)
        if count < low:
            return -NEVER
        # Time only takes away: the next change is when as few are left as turn the outcome.
        if count > high:
            return -(times[-high - 1] + within_ms)
        return times[-low] + within_ms if low else NEVER

    return Compiled(condition, check, lambda look: str(number(look)))


def _feature(condition: FeatureIs) -> Compiled:
    feature, holds = FEATURE_OF[condition.feature], outcome(condition.comparison)
    name, of = feature.name, feature.of
    # A number without a level in question can only cease to be known: it crosses the least of all levels.
    levels: tuple[float | None, ...] = condition.comparison.levels or (None if feature.type == "text" else -math.inf,)

    def check(look: Look) -> int:
        met, until = holds(look.feature(name, of)), NEVER
        for level in levels:
            change_ms = feature.next_change_ms(look.reading, level)
            if change_ms is not None and change_ms < until:
                until = max(change_ms, look.at_ms + 1)
        return until if met else -until

    return Compiled(condition, check, lambda look: _shown(look.feature(name, of)))


def _score(condition: ScoreIs) -> Compiled:
    name, holds = condition.score, outcome(condition.comparison)

    def check(look: Look) -> int:
        return signed(holds(look.score(name)), look.at_ms + SCORE_LOOK_MS)

    return Compiled(condition, check, lambda look: _shown(look.score(name)))


def _trait(condition: TraitIs) -> Compiled:
    path, holds = condition.trait, outcome(condition.comparison)

    def check(look: Look) -> int:
        return NEVER if holds(look.trait(path)) else -NEVER

    return Compiled(condition, check, lambda look: _shown(look.trait(path)))


def _near(condition: Near) -> Compiled:
    def kilometres(look: Look) -> float | None:
        place = look.profile.location
        return None if place is None else distance_km(condition, place.latitude, place.longitude)

    def check(look: Look) -> int:
        away = kilometres(look)
        return NEVER if away is not None and away <= condition.within_km else -NEVER

    def found(look: Look) -> str:
        away = kilometres(look)
        return "no location" if away is None else f"{away:.1f} km"

    return Compiled(condition, check, found)


def distance_km(point: Near, latitude: float, longitude: float) -> float:
    """Return the great-circle distance to a place, by the haversine formula.

    >>> round(distance_km(Near(52.52, 13.405, 0.0), 48.8566, 2.3522))
    877
    """
    north, south = math.radians(point.latitude), math.radians(latitude)
    east = math.radians(longitude - point.longitude)
    half = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(east / 2) ** 2
    return 2 * EARTH_KM * math.asin(math.sqrt(min(half, 1.0)))


def _segment(condition: InSegment, place: int) -> Compiled:
    return Compiled(
        condition,
        lambda look: look.untils[place],
        lambda look: "inside" if look.untils[place] > 0 else "outside",
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "nothing" if missing(value) else f"{value:.6g}"
    return "nothing" if value is None else orjson.dumps(value).decode()
