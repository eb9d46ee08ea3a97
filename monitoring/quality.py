"""The quality of what comes in, by source and event: refused, broken, incomplete, late, repeated, and how much."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bespoke.clock import WEEK_MS
from storage.quality import CountKey, QualityStore, hour_of
from storage.quality_counts import DELAY_KEYS, DELAYS_MS, LINE_PROPERTIES, LINES

WEEKS = 4
"""Earlier weeks that the volume is held against."""
LOW, HIGH = 0.5, 2.0
"""Outside these ratios a volume is unusual."""
MIN_EXPECTED = 20.0
"""Below so many events by the earlier weeks, chance alone makes such ratios."""

EventKey = tuple[str, str, str]
"""Source, type and name."""


@dataclass(frozen=True, slots=True)
class Volume:
    """The whole hours of a span against the same hours of earlier weeks."""

    accepted: int
    """In the whole hours."""
    expected: float | None
    """Mean of the earlier weeks; None where there are none."""
    weeks: int
    """Earlier weeks that it rests on: those that the source was counted in from the first hour on."""

    @property
    def ratio(self) -> float | None:
        """Accepted per expected."""
        return self.accepted / self.expected if self.expected else None

    @property
    def unusual(self) -> bool:
        """Whether the ratio is below ``LOW`` or above ``HIGH``, where enough was expected to tell."""
        high = max(self.accepted, self.expected or 0.0)
        if self.expected is None or high < MIN_EXPECTED:
            return False
        return not LOW * self.expected <= self.accepted <= HIGH * self.expected


@dataclass(frozen=True, slots=True)
class QualityRow:
    """The figures of one event of one source. Shares are 0..1."""

    source: str
    type: str
    name: str
    accepted: int
    volume: Volume
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Refused messages by reason."""
    violations: Mapping[str, int] = field(default_factory=dict)
    """Messages by what of the tracking plan they break; refused ones included."""
    missing: Mapping[str, float] = field(default_factory=dict)
    """Share of lines that lack a property; empty for events without lines."""
    duplicates: int = 0
    near_duplicates: int = 0
    bots: int = 0
    delay_mean_ms: float | None = None
    delay_median_ms: float | None = None
    """From happening to receipt, read off counts by range: within its range, evenly spread."""
    delay_p95_ms: float | None = None


def quality_figures(store: QualityStore, *, since_ms: int, until_ms: int) -> list[QualityRow]:
    """Return the figures of every event that came in, or came in at these hours of earlier weeks; the most first.

    Args:
        store: what was counted.
        since_ms: from the beginning of the hour of this time on.
        until_ms: up to this time.

    Raises:
        Unavailable: the store cannot be read.
    """
    since_ms = hour_of(since_ms)
    counted: dict[EventKey, dict[str, int]] = defaultdict(dict)
    for key, n in store.totals(since_ms=since_ms, until_ms=until_ms).items():
        counted[key.source, key.type, key.name][key.what] = n
    volumes = _volumes(store, since_ms=since_ms, until_ms=hour_of(until_ms))
    rows = [_row(key, counted.get(key, {}), volumes) for key in {*counted, *volumes.earlier()}]
    return sorted(rows, key=lambda row: (-row.accepted - sum(row.rejected.values()), row.source, row.type, row.name))


@dataclass(frozen=True, slots=True)
class _Volumes:
    """Accepted events of the whole hours of a span, and of the same hours of each earlier week."""

    now: Mapping[EventKey, int]
    weeks: Sequence[Mapping[EventKey, int]]
    known: Mapping[str, Sequence[bool]]
    """By source, whether each earlier week counts."""

    def earlier(self) -> Iterable[EventKey]:
        """Return what came in in weeks that count."""
        return {key for n, week in enumerate(self.weeks) for key in week if self.known[key[0]][n]}

    def of(self, key: EventKey) -> Volume:
        """Return the volume of one event."""
        before = [
            week.get(key, 0) for week, counts in zip(self.weeks, self.known.get(key[0], ()), strict=False) if counts
        ]
        return Volume(self.now.get(key, 0), sum(before) / len(before) if before else None, len(before))


def _volumes(store: QualityStore, *, since_ms: int, until_ms: int) -> _Volumes:
    if until_ms <= since_ms:
        # Not one whole hour: nothing that could be held against whole ones.
        return _Volumes({}, (), {})
    first = store.first_hours()
    now, *weeks = (
        _accepted(store.totals(since_ms=since_ms - ago, until_ms=until_ms - ago, what="accepted"))
        for ago in range(0, (WEEKS + 1) * WEEK_MS, WEEK_MS)
    )
    known = {
        source: [hour_ms <= since_ms - n * WEEK_MS for n in range(1, WEEKS + 1)] for source, hour_ms in first.items()
    }
    return _Volumes(now, weeks, known)


def _accepted(totals: Mapping[CountKey, int]) -> dict[EventKey, int]:
    return {(key.source, key.type, key.name): n for key, n in totals.items()}


def _row(key: EventKey, counted: Mapping[str, int], volumes: _Volumes) -> QualityRow:
    accepted, lines = counted.get("accepted", 0), counted.get(LINES, 0)
    delays = [counted.get(name, 0) for name in DELAY_KEYS]
    missing = {name: counted.get(f"missing:{name}", 0) / lines for name in LINE_PROPERTIES} if lines else {}
    return QualityRow(
        *key,
        accepted=accepted,
        volume=volumes.of(key),
        rejected=_under("rejected:", counted),
        violations=_under("violation:", counted),
        missing=missing,
        duplicates=counted.get("duplicate", 0),
        near_duplicates=counted.get("near_duplicate", 0),
        bots=counted.get("bot", 0),
        delay_mean_ms=counted.get("delay_sum_ms", 0) / accepted if accepted else None,
        delay_median_ms=_quantile(delays, 0.5),
        delay_p95_ms=_quantile(delays, 0.95),
    )


def _under(prefix: str, counted: Mapping[str, int]) -> dict[str, int]:
    return {what.removeprefix(prefix): n for what, n in sorted(counted.items()) if what.startswith(prefix)}


def _quantile(delays: Sequence[int], share: float) -> float | None:
    """Return the delay that ``share`` of the events do not exceed; the last range has no end, so its beginning.

    >>> _quantile([10, 0, 10] + [0] * 13, 0.25)
    50.0
    """
    total = sum(delays)
    if not total:
        return None
    left = share * total
    low = 0
    for n, high in zip(delays, DELAYS_MS, strict=False):
        if n and left <= n:
            return low + (high - low) * left / n
        left -= n
        low = high
    return float(low)
