"""Whether a new version does worse than the one before it: one-sided exact tests that stand being looked at often."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bespoke.experiments.health import EDGES_MS, Health


class GuardSettings(BaseModel):
    """When a version is taken out of traffic by itself. The table ``[guard]`` of config/experiments.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Whether anything is rolled back by itself.")
    window_s: int = Field(default=300, ge=10, le=3600, description="The newest so many seconds are compared.")
    promoted_within_s: int = Field(
        default=1800, ge=0, le=3600, description="A champion is a canary for so long after its promotion."
    )
    alpha: float = Field(
        default=1e-6,
        gt=0,
        le=0.01,
        description="Chance of a false alarm at one look; 43,200 looks a day share 4% by the union bound.",
    )
    min_errors: int = Field(default=5, ge=1, description="Fewer bad requests decide nothing.")
    error_excess: float = Field(default=0.01, gt=0, lt=1, description="Errors count from this much above the others'.")
    missed_excess: float = Field(
        default=0.05, gt=0, lt=1, description="Missed deadlines count from this much above the others'."
    )
    latency_ratio: float = Field(default=1.5, gt=1, description="The 99th percentile may be so many times the others'.")
    latency_excess_ms: float = Field(default=10.0, ge=0, description="And at least so much above it.")
    min_requests: int = Field(default=300, ge=50, description="Requests on either side before latency is compared.")


Measure = Literal["errors", "missed deadlines", "latency"]


@dataclass(frozen=True, slots=True)
class Worse:
    """In which way a version does worse."""

    measure: Measure
    words: str


def worse(canary: Health, baseline: Health, settings: GuardSettings) -> Worse | None:
    """Return in which way ``canary`` does worse; None where nothing says so.

    Shares of bad requests are compared by Fisher's exact test, one-sided. Of latency, the bad ones are those above
    what the other's 99th percentile allows.
    """
    for measure, limit, bad, other, excess in _measures(canary, baseline, settings):
        share, expected = bad / canary.count, other / baseline.count
        if bad < settings.min_errors or share - expected < excess:
            continue
        if _p_value(bad, canary.count, other, baseline.count) < settings.alpha:
            compared = f"{share:.2%} of {canary.count} requests, against {expected:.2%} of {baseline.count}"
            return Worse(measure, f"{measure}{limit} in {compared}")
    return None


_Bad = tuple[Measure, str, int, int, float]
"""What is bad, beyond which limit, in how many requests of either side, and which difference of shares matters."""


def _measures(canary: Health, baseline: Health, settings: GuardSettings) -> Iterator[_Bad]:
    if not canary.count or not baseline.count:
        return
    yield "errors", "", canary.errors, baseline.errors, settings.error_excess
    yield "missed deadlines", "", canary.missed, baseline.missed, settings.missed_excess
    if min(canary.count, baseline.count) < settings.min_requests:
        return
    usual = baseline.quantile_ms(0.99)
    allowed = max(usual * settings.latency_ratio, usual + settings.latency_excess_ms)
    limit = next((edge for edge in EDGES_MS if edge >= allowed), None)
    # One in a hundred above it is what puts the canary's own 99th percentile there.
    if limit is not None and canary.above(limit) > 0.01 * canary.count:
        yield "latency", f" above {limit:.0f} ms", canary.above(limit), baseline.above(limit), 0.0


def _p_value(bad: int, count: int, other_bad: int, other_count: int) -> float:
    """Return the chance of so many of all bad requests in the first part, were both parts alike (Fisher, 1935)."""
    # Imported where it is used: replicas read experiments too, and never test.
    from scipy.stats import hypergeom

    return float(hypergeom.sf(bad - 1, count + other_count, bad + other_bad, count))
