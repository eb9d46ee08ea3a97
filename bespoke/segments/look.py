"""A look at one profile at one moment: what several conditions read of it is derived once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, repeat
from typing import Any

import orjson

from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.events import INTERACTION_OF_NAME, InteractionType
from bespoke.features import Reading
from bespoke.profiles import MICROS, BucketCounts, Profile, Recent
from bespoke.segments.conditions import ANY, Count, Found, ItemFilter
from bespoke.segments.entries import MAX_COUNT

MINUTES_WINDOW_MS = 2 * HOUR_MS
HOURS_WINDOW_MS = 8 * DAY_MS
"""Up to which windows the profile's minutes and hours reach; longer ones are counted by day."""
_INTERACTIONS = frozenset(kind.value for kind in InteractionType)
_COLUMN = {"item": Recent._fields.index("item_id"), "category": Recent._fields.index("category")}
_COLUMN["brand"] = Recent._fields.index("brand")

Lines = Sequence[Recent]
Times = Sequence[int]
"""When each of what is counted happened, oldest first; for buckets, the end of the bucket."""
Score = Callable[[str], float | None]


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted: conditions that differ in window or number only share one of these."""

    name: str
    filter: ItemFilter
    lines: bool
    bucket_ms: int
    """Size of the buckets of names that are about no item; 0 where only item events count."""


def counted(count: Count) -> Counted:
    """Return what a condition counts."""
    bucketed = count.name not in INTERACTION_OF_NAME and not count.filter
    return Counted(count.name, count.filter, count.lines, _bucket_ms(count.within_ms) if bucketed else 0)


def _bucket_ms(within_ms: int | None) -> int:
    if within_ms is None or within_ms > HOURS_WINDOW_MS:
        return DAY_MS
    return MINUTE_MS if within_ms <= MINUTES_WINDOW_MS else HOUR_MS


class Look:
    """One profile at one moment, for the checks of all segments.

    Attributes:
        profile: the person's state.
        at_ms: the moment.
        untils: of the segments that were evaluated so far, in the order of evaluation, as checks return it.
    """

    __slots__ = (
        "_by_value",
        "_counted",
        "_features",
        "_names",
        "_score",
        "_scores",
        "_times",
        "_traits",
        "at_ms",
        "profile",
        "reading",
        "untils",
    )

    def __init__(self, profile: Profile, at_ms: int, score: Score, counted: Sequence[Counted]) -> None:
        self.profile, self.at_ms = profile, at_ms
        self.reading = Reading(profile, at_ms)
        self.untils: list[int] = []
        self._score, self._counted = score, counted
        self._times: list[Times | None] = [None] * len(counted)
        self._by_value: dict[tuple[str, str], dict[str, list[Recent]]] = {}
        self._names: dict[int, dict[str, list[tuple[int, int]]]] = {}
        self._features: dict[str, Found] = {}
        self._scores: dict[str, float | None] = {}
        self._traits: dict[str, Any] = {}

    def feature(self, name: str, of: Callable[[Reading], float | str | None]) -> Found:
        """Return the value of a feature."""
        if name not in self._features:
            self._features[name] = of(self.reading)
        return self._features[name]

    def score(self, name: str) -> float | None:
        """Return the value of a score, None where there is none."""
        if name not in self._scores:
            self._scores[name] = self._score(name)
        return self._scores[name]

    def trait(self, path: str) -> Any:
        """Return what a trait holds, None where there is no such trait. A trait of the whole name goes first."""
        if path not in self._traits:
            self._traits[path] = _trait(self.profile, path)
        return self._traits[path]

    def times(self, slot: int) -> Times:
        """Return when what ``counted[slot]`` names happened."""
        times = self._times[slot]
        if times is None:
            times = self._times[slot] = self._read_times(self._counted[slot])
        return times

    def _read_times(self, what: Counted) -> Times:
        if what.name == ANY and what.bucket_ms:
            named = [
                times for name in self._buckets(what.bucket_ms) if (times := self._name_times(name, what.bucket_ms))
            ]
            return list(merge(self._line_times(what), *named))
        return self._name_times(what.name, what.bucket_ms) if what.bucket_ms else self._line_times(what)

    def _line_times(self, what: Counted) -> Times:
        lines = self._lines(what)
        if what.lines:
            return [line.at_ms for line in lines]
        # Lines of one message share time and interaction; the time alone tells messages of one interaction apart.
        if what.name != ANY:
            return list(dict.fromkeys([line.at_ms for line in lines]))
        return [at_ms for at_ms, _ in dict.fromkeys([(line.at_ms, line.interaction) for line in lines])]

    def _lines(self, what: Counted) -> Lines:
        interaction = ANY if what.name == ANY else INTERACTION_OF_NAME[what.name].value
        of_kind: Lines = self.profile.recent if what.name == ANY else self.reading.by_interaction.get(interaction, ())
        if not of_kind or not what.filter:
            return of_kind
        return _filtered(
            of_kind, what.filter, lambda column, value: self._with_value(of_kind, interaction, column, value)
        )

    def _with_value(self, lines: Lines, interaction: str, column: str, value: str) -> Lines:
        by_value = self._by_value.get((interaction, column))
        if by_value is None:
            by_value = self._by_value[interaction, column] = {}
            place = _COLUMN[column]
            for line in lines:
                by_value.setdefault(line[place], []).append(line)  # type: ignore[arg-type]
        return by_value.get(value, ())

    def _name_times(self, name: str, bucket_ms: int) -> Times:
        buckets = self._buckets(bucket_ms).get(name, ())
        ends = chain.from_iterable(repeat((number + 1) * bucket_ms, min(n, MAX_COUNT + 1)) for number, n in buckets)
        return list(ends)[-MAX_COUNT - 1 :]

    def _buckets(self, bucket_ms: int) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Return (number, count) of the buckets of each name that is about no item, oldest first."""
        buckets = self._names.get(bucket_ms)
        if buckets is None:
            buckets = self._names[bucket_ms] = {}
            for (number, name), count in sorted(_counts(self.profile, bucket_ms).items()):
                if name not in _INTERACTIONS:
                    buckets.setdefault(name, []).append((number, count))
        return buckets


def _counts(profile: Profile, bucket_ms: int) -> BucketCounts:
    if bucket_ms == MINUTE_MS:
        return profile.minute_counts
    return profile.hour_counts if bucket_ms == HOUR_MS else profile.name_day_counts


def _filtered(lines: Lines, asked: ItemFilter, with_value: Callable[[str, str], Lines]) -> Lines:
    grouped = False
    for column in ("item", "category", "brand"):
        names, place = getattr(asked, column), _COLUMN[column]
        if len(names) == 1 and not grouped:
            lines, grouped = with_value(column, names[0]), True
        elif names:
            wanted = frozenset(names)
            lines = [line for line in lines if line[place] in wanted]
    above, below = asked.price_above, asked.price_below
    if above is not None:
        lines = [line for line in lines if line.price_micros > above * MICROS]
    if below is not None:
        lines = [line for line in lines if 0 <= line.price_micros < below * MICROS]
    return lines


def _trait(profile: Profile, path: str) -> Any:
    whole = profile.traits.get(path)
    if whole is not None:
        return orjson.loads(whole.value_json)
    name, *keys = path.split(".")
    trait = profile.traits.get(name)
    value = orjson.loads(trait.value_json) if trait is not None and keys else None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
