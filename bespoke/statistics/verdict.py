"""A difference in words, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

from bespoke.statistics.difference import Difference
from bespoke.statistics.metric import Metric
from bespoke.statistics.sequence import AnytimeInterval

Outcome = Literal["better", "worse", "open", "harmless", "harmful", "skewed", "untrusted"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said so far."""

    outcome: Outcome
    words: str


def verdict(metric: Metric, found: Difference, sure: AnytimeInterval | None, *, trusted: bool = True) -> Verdict:
    """Return what a difference says by the interval that is sure.

    Args:
        metric: whose difference it is.
        found: the difference, relative where it can be.
        sure: the interval to rest on; None: there are too few units.
        trusted: False: too few units make up most of the metric.
    """
    if sure is None:
        return Verdict("open", "too few units to say anything")
    if not trusted:
        return Verdict("skewed", "a few units make up most of it: nothing can be said yet")
    low, high = (-sure.high, -sure.low) if metric.smaller_is_better else (sure.low, sure.high)
    shown = _shown(found, sure)
    if metric.guardrail:
        return _guarded(metric.tolerated if found.relative else 0.0, low, high, shown)
    if low > 0:
        return Verdict("better", f"better: {shown}")
    if high < 0:
        return Verdict("worse", f"worse: {shown}")
    return Verdict("open", f"no difference is certain yet: {shown}")


def _guarded(tolerated: float, low: float, high: float, shown: str) -> Verdict:
    limit = f" by more than {tolerated:.1%}" if tolerated else ""
    if low > -tolerated:
        return Verdict("harmless", f"it is not worse{limit}: {shown}")
    if high < -tolerated:
        return Verdict("harmful", f"it is worse{limit}: {shown}")
    return Verdict("open", f"harm is not ruled out yet: {shown}")


def _shown(found: Difference, sure: AnytimeInterval) -> str:
    if found.relative:
        return f"{found.estimate:+.1%} ({sure.low:+.1%} to {sure.high:+.1%})"
    return f"{found.estimate:+.4g} ({sure.low:+.4g} to {sure.high:+.4g})"
