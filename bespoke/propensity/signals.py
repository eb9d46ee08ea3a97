"""Signals: what a propensity model reads of a profile: the features that everybody shares, and a person's rhythm.

The rhythm is derived here from the same state: on which days somebody buys, how long the pauses usually are, and how
the present pause compares with them. Training and serving call the same function.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS
from bespoke.features import FEATURE_NAMES, FeatureVector, features
from bespoke.profiles import TAKEN_BACK, Profile

GAPS = 30
"""How many of the newest pauses count."""
WEEK_DAYS = 7.0


class Rhythm(NamedTuple):
    """One signal of the rhythm."""

    name: str
    meaning: str
    unit: str


RHYTHM: tuple[Rhythm, ...] = (
    Rhythm("active_days_7d", "days with an interaction among the last 7", "days"),
    Rhythm("active_days_30d", "days with an interaction among the last 30", "days"),
    Rhythm("purchase_days_14d", "days with a purchase among the last 14", "days"),
    Rhythm("purchase_days_30d", "days with a purchase among the last 30", "days"),
    Rhythm("purchase_days_60d", "days with a purchase among the last 60", "days"),
    Rhythm("purchase_days_120d", "days with a purchase among the last 120", "days"),
    Rhythm("purchase_days_fast", "days with a purchase, halved every 7 days", "days"),
    Rhythm("purchase_days_slow", "days with a purchase, halved every 30 days", "days"),
    Rhythm("purchase_trend", "purchase days per day of the last 14, over those of the last 60", "ratio"),
    Rhythm("purchase_weeks_8w", "share of the last 8 weeks with a purchase, of those since the first event", "share"),
    Rhythm("purchase_weeks_26w", "share of the last 26 weeks with a purchase, of those since the first event", "share"),
    Rhythm("lines_per_day_60d", "lines bought per purchase day of the last 60 days", "lines"),
    Rhythm("gap_mean_days", "mean pause between purchase days", "days"),
    Rhythm("gap_deviation_days", "standard deviation of the pauses between purchase days", "days"),
    Rhythm("gap_longest_days", "longest pause between purchase days", "days"),
    Rhythm("gap_last_days", "latest pause between purchase days", "days"),
    Rhythm("gap_ratio", "time since the last purchase day, over the mean pause", "ratio"),
    Rhythm("gap_survived", "share of the pauses that were longer than the present one", "share"),
    Rhythm("gap_ends_7d", "share of those longer pauses that ended within the 7 days after", "share"),
    Rhythm("gap_ends_30d", "share of those longer pauses that ended within the 30 days after", "share"),
)
SIGNAL_NAMES: tuple[str, ...] = (*FEATURE_NAMES, *(signal.name for signal in RHYTHM))

Days = npt.NDArray[np.float64]


def signals(profile: Profile, at_ms: int) -> FeatureVector:
    """Return the signals [S] of ``profile`` as seen at ``at_ms``: one number per entry of :data:`SIGNAL_NAMES`."""
    return np.concatenate([features(profile, at_ms), rhythm(profile, at_ms)])


def rhythm(profile: Profile, at_ms: int) -> FeatureVector:
    """Return one number per entry of :data:`RHYTHM`; NaN where there is nothing to derive it from."""
    acted = {day for day, interaction in profile.day_counts if interaction not in TAKEN_BACK}
    lines = {day: n for (day, interaction), n in profile.day_counts.items() if interaction == "purchase"}
    active_D = _ages(acted, at_ms)
    age_D = _ages(lines, at_ms)
    values = {
        "active_days_7d": np.count_nonzero(active_D <= 7),
        "active_days_30d": np.count_nonzero(active_D <= 30),
        **_buying(age_D, lines, at_ms, known_days=_known_days(profile, at_ms)),
        **_pauses(age_D),
    }
    return np.array([values[signal.name] for signal in RHYTHM], dtype=np.float64)


def _buying(age_D: Days, lines: dict[int, int], at_ms: int, *, known_days: float) -> dict[str, float]:
    """Return how often somebody buys; ``age_D`` are the purchase days' ages in days, the oldest first."""
    count = {days: int(np.count_nonzero(age_D <= days)) for days in (14, 30, 60, 120)}
    bought_60d = sum(n for day, n in lines.items() if 0 <= at_ms - day * DAY_MS <= 60 * DAY_MS)
    return {
        **{f"purchase_days_{days}d": n for days, n in count.items()},
        "purchase_days_fast": float(np.exp2(-age_D / 7).sum()),
        "purchase_days_slow": float(np.exp2(-age_D / 30).sum()),
        "purchase_trend": _over(count[14] / 14, count[60] / 60),
        "purchase_weeks_8w": _share_of_weeks(age_D, weeks=8, known_days=known_days),
        "purchase_weeks_26w": _share_of_weeks(age_D, weeks=26, known_days=known_days),
        "lines_per_day_60d": _over(bought_60d, count[60]),
    }


def _pauses(age_D: Days) -> dict[str, float]:
    """Return how the present pause compares with the earlier ones."""
    gap_G = -np.diff(age_D)[-GAPS:]
    if not len(gap_G):
        return dict.fromkeys((signal.name for signal in RHYTHM if signal.name.startswith("gap_")), np.nan)
    waited, mean = float(age_D[-1]), float(gap_G.mean())
    longer_G = gap_G[gap_G > waited]
    return {
        "gap_mean_days": mean,
        "gap_deviation_days": float(gap_G.std()),
        "gap_longest_days": float(gap_G.max()),
        "gap_last_days": float(gap_G[-1]),
        "gap_ratio": waited / mean,
        # Half a pause more on either side: few pauses say little.
        "gap_survived": (len(longer_G) + 0.5) / (len(gap_G) + 1),
        "gap_ends_7d": (np.count_nonzero(longer_G <= waited + 7) + 0.5) / (len(longer_G) + 1),
        "gap_ends_30d": (np.count_nonzero(longer_G <= waited + 30) + 0.5) / (len(longer_G) + 1),
    }


def _ages(days: "set[int] | dict[int, int]", at_ms: int) -> Days:
    """Return the age in days of the beginning of each UTC day, the oldest first; days yet to come are no part of it."""
    age_D = at_ms / DAY_MS - np.array(sorted(days), dtype=np.float64)
    return age_D[age_D >= 0]


def _known_days(profile: Profile, at_ms: int) -> float:
    return 0.0 if profile.first_ms is None else max(at_ms - profile.first_ms, 0) / DAY_MS


def _share_of_weeks(age_D: Days, *, weeks: int, known_days: float) -> float:
    bought = len(np.unique(age_D[age_D < weeks * WEEK_DAYS] // WEEK_DAYS))
    return min(bought / min(max(known_days / WEEK_DAYS, 1.0), weeks), 1.0)


def _over(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
