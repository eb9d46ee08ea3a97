"""Bootstrap intervals: how sure the mean over people is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
DRAWS_PER_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Bounds:
    """A two-sided interval."""

    low: float
    high: float


def bootstrap_means(
    values_UM: npt.NDArray[np.floating[Any]], *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> list[Bounds]:
    """Return the percentile interval of each column's mean, over people drawn with replacement.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.

    Args:
        values_UM: M values of each of U people.
        resamples: how often U people are drawn anew.
        confidence: coverage of the intervals, 0..1.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: there is nobody.

    >>> bootstrap_means(np.ones((5, 1)))
    [Bounds(low=1.0, high=1.0)]
    """
    people = len(values_UM)
    if values_UM.ndim != 2 or not people:
        raise ValueError(f"values of people need two dimensions and one person at least, got {values_UM.shape}")
    values_UM = values_UM.astype(np.float64)
    random = np.random.default_rng(seed)
    mean_RM = np.empty((resamples, values_UM.shape[1]))
    block = max(1, DRAWS_PER_BLOCK // people)
    for start in range(0, resamples, block):
        mean_RM[start : start + block] = _draws(random, min(block, resamples - start), people) @ values_UM / people
    tail = (1 - confidence) / 2
    low_M, high_M = np.quantile(mean_RM, [tail, 1 - tail], axis=0)
    return [Bounds(float(low), float(high)) for low, high in zip(low_M, high_M, strict=True)]


def _draws(random: np.random.Generator, rows: int, people: int) -> npt.NDArray[np.float64]:
    """Return how often each person was drawn, [rows, people]."""
    counts = [np.bincount(random.integers(0, people, people), minlength=people) for _ in range(rows)]
    return np.stack(counts).astype(np.float64)
