"""Segments: groups of people that conditions define, who is inside, and when time alone may next change that."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson

from bespoke.clock import from_ms
from bespoke.errors import NotFound
from bespoke.profiles import Profile
from bespoke.segments.checks import NEVER, Compiled, Slots, compiled
from bespoke.segments.conditions import Condition, FeatureIs, InSegment, ScoreIs, TraitIs, leaves
from bespoke.segments.entries import Place, check_keys
from bespoke.segments.grammar import Known, read_condition
from bespoke.segments.look import Counted, Look

MAX_SEGMENTS = 1_000
MAX_CONDITIONS = 200
"""How many conditions without parts one segment may have."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_RESERVED = frozenset({"stream"})
_JOINS = ("all", "any", "not")


@dataclass(frozen=True, slots=True)
class Segment:
    """What one segment is."""

    name: str
    meaning: str
    condition: Condition
    fingerprint: str
    """Hash of the definition and of those of the segments that it refers to: another one, and people may move."""
    refers: frozenset[str]
    """The segments that it names itself."""
    features: frozenset[str]
    """The features that it reads, itself or by the segments that it refers to; so with the next two."""
    scores: frozenset[str]
    traits: frozenset[str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Which segments somebody is in.

    Attributes:
        inside: names, sorted.
        next_change_ms: until then nothing changes unless an event comes; at that time something may. None: never.
    """

    inside: tuple[str, ...]
    next_change_ms: int | None


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a condition holds of somebody, or does not."""

    text: str
    found: str | None
    """What the profile holds; None where the parts say it."""
    holds: bool
    next_change_ms: int | None
    parts: "tuple[Explained, ...]" = ()

    def __str__(self) -> str:
        return "\n".join(self._rows(0))

    def _rows(self, depth: int) -> list[str]:
        found = "" if self.found is None else f": {self.found}"
        change = "" if self.next_change_ms is None else f" (may change at {_moment(self.next_change_ms)})"
        row = f"{'  ' * depth}{'yes' if self.holds else 'no '} {self.text}{found}{change}"
        return [row, *(line for part in self.parts for line in part._rows(depth + 1))]


def _moment(ms: int) -> str:
    try:
        return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


@dataclass(frozen=True)
class Segments:
    """All segments of one configuration, compiled.

    What is counted of item events is exact to the millisecond within the newest lines that a profile keeps (see
    ``RECENT_LIMITS``). Events of other names are counted by minute in windows up to 2 hours, by hour up to 8 days, else
    by UTC day: they count until the whole of it has left the window. An event leaves a window when it is as old as the
    window is long; one that its sender's clock puts into the future counts at once.
    """

    segments: Mapping[str, Segment]
    _order: tuple[str, ...] = ()
    """Names, those that others refer to first."""
    _compiled: Mapping[str, Compiled] = field(default_factory=dict)
    _counted: tuple[Counted, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self.segments))

    @property
    def scores(self) -> frozenset[str]:
        """The scores that any segment reads."""
        return frozenset(score for segment in self.segments.values() for score in segment.scores)

    def evaluate(self, profile: Profile, at_ms: int, *, score: Callable[[str], float | None]) -> Evaluation:
        """Return which segments ``profile`` is in at ``at_ms``.

        Args:
            profile: the person's state.
            at_ms: the moment.
            score: returns the value of a score by its name, 0..1; None where there is none.
        """
        look = self._look(profile, at_ms, score)
        untils = look.untils
        inside = tuple(sorted([name for name, until in zip(self._order, untils, strict=True) if until > 0]))
        return Evaluation(inside, _known(min(map(abs, untils), default=NEVER)))

    def explain(self, name: str, profile: Profile, at_ms: int, *, score: Callable[[str], float | None]) -> Explained:
        """Return why ``profile`` is in a segment at ``at_ms``, or is not; its ``str`` is text for people.

        Raises:
            NotFound: there is no such segment.
        """
        if name not in self.segments:
            raise NotFound(f"no segment {name!r}; there are: {', '.join(self.names) or 'none'}")
        return _explained(self._compiled[name], self._look(profile, at_ms, score))

    def _look(self, profile: Profile, at_ms: int, score: Callable[[str], float | None]) -> Look:
        look = Look(profile, at_ms, score, self._counted)
        for name in self._order:
            look.untils.append(self._compiled[name].check(look))
        return look


def _explained(one: Compiled, look: Look) -> Explained:
    until = one.check(look)
    return Explained(
        str(one.condition),
        one.found(look) if one.found else None,
        until > 0,
        _known(abs(until)),
        tuple(_explained(part, look) for part in one.parts),
    )


def _known(until_ms: int) -> int | None:
    return None if until_ms >= NEVER else until_ms


def read_segments(
    document: Mapping[str, Any], *, scores: Collection[str] = (), where: str = "segments.toml"
) -> Segments:
    """Return the segments of a file's entries: one table per segment, named after it.

    Args:
        document: the entries.
        scores: names of the scores that conditions may use.
        where: what errors name.

    Raises:
        ConfigError: names the entry, its value and what is allowed.
    """
    place = Place(where)
    if len(document) > MAX_SEGMENTS:
        raise place.problem(f"{len(document)} segments", f"at most {MAX_SEGMENTS}")
    known = Known(scores, document.keys())
    conditions = {name: _condition(name, table, Place(f"{where}: {name}"), known) for name, table in document.items()}
    order = _ordered(conditions, place)
    segments: dict[str, Segment] = {}
    for name in order:
        segments[name] = _segment(name, document[name], conditions[name], segments)
    slots = Slots({}, {name: n for n, name in enumerate(order)})
    checks = {name: compiled(conditions[name], slots) for name in order}
    return Segments({name: segments[name] for name in sorted(segments)}, order, checks, tuple(slots.counted))


def _condition(name: str, table: Any, place: Place, known: Known) -> Condition:
    if not _NAME.fullmatch(name):
        raise place.problem(name, "a name of small letters, digits, - and _ that begins with a letter, at most 64 long")
    if name in _RESERVED:
        raise place.problem(name, "another name: the address /api/v1/segments/stream is taken")
    if not isinstance(table, Mapping):
        raise place.problem(table, f"a table [{name}]")
    check_keys(table, ("meaning", *_JOINS), place)
    meaning = table.get("meaning", "")
    if not isinstance(meaning, str) or len(meaning) > 500:
        raise place.at("meaning").problem(meaning, "a text of at most 500 characters")
    if sum(join in table for join in _JOINS) != 1:
        raise place.problem(dict(table), "exactly one of all, any, not")
    condition = read_condition({key: table[key] for key in table if key != "meaning"}, place, known)
    number = sum(1 for _ in leaves(condition))
    if number > MAX_CONDITIONS:
        raise place.problem(f"{number} conditions", f"at most {MAX_CONDITIONS}; give a part a segment of its own")
    return condition


def _ordered(conditions: Mapping[str, Condition], place: Place) -> tuple[str, ...]:
    """Return the names, those that others refer to first; the order of definition plays no part."""
    refers = {name: sorted(_refers(conditions[name])) for name in sorted(conditions)}
    try:
        return tuple(TopologicalSorter(refers).static_order())
    except CycleError as error:
        # graphlib tells whom each is needed by; people read it the other way round.
        circle = " -> ".join(reversed(error.args[1]))
        raise place.problem(circle, "segments that do not refer to themselves, by others either") from None


def _refers(condition: Condition) -> frozenset[str]:
    return frozenset(leaf.segment for leaf in leaves(condition) if isinstance(leaf, InSegment))


def _segment(name: str, table: Mapping[str, Any], condition: Condition, earlier: Mapping[str, Segment]) -> Segment:
    refers = _refers(condition)
    others = [earlier[other] for other in sorted(refers)]
    definition = {join: table[join] for join in _JOINS if join in table}
    parts = [orjson.dumps(definition, option=orjson.OPT_SORT_KEYS).decode(), *(other.fingerprint for other in others)]
    own = list(leaves(condition))
    return Segment(
        name=name,
        meaning=table.get("meaning", ""),
        condition=condition,
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16],
        refers=refers,
        features=frozenset(leaf.feature for leaf in own if isinstance(leaf, FeatureIs)).union(
            *(other.features for other in others)
        ),
        scores=frozenset(leaf.score for leaf in own if isinstance(leaf, ScoreIs)).union(
            *(other.scores for other in others)
        ),
        traits=frozenset(leaf.trait for leaf in own if isinstance(leaf, TraitIs)).union(
            *(other.traits for other in others)
        ),
    )
