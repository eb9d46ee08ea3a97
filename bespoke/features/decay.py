"""Decay: how much less something counts with age."""

from bespoke.clock import DAY_MS

HALF_LIFE_DAYS = 30.0


def decay(age_ms: float, *, half_life_days: float) -> float:
    """Return the weight of something ``age_ms`` old; nothing weighs more than 1.

    >>> decay(30 * DAY_MS, half_life_days=30)
    0.5
    """
    return float(0.5 ** (max(age_ms, 0.0) / (half_life_days * DAY_MS)))
