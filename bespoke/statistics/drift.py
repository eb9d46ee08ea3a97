"""Whether a column is still distributed as it was: a distance that matters, and that chance does not make.

A column has drifted where its distance from the reference reaches a floor, below which nobody would act, and where
chance alone makes so large a distance less than once in :data:`ALPHA`. Both sides are samples of at most some
thousand rows, so that large windows do not alarm at what does not matter.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

ALPHA = 0.002
"""Of twenty columns without drift, one in 25 windows has one beyond chance; hardly ever the same in two in a row."""
NUMBER_FLOOR = 0.05
"""The largest gap between the distribution functions; a shift of .2 standard deviations makes .08."""
CATEGORY_FLOOR = 0.03
"""Half the sum of the shares' differences: what would have to move from one category to another."""
MIN_VALUES = 100
MIN_EXPECTED = 5.0
"""Categories that are expected less often are taken together for the p-value."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a column has moved."""

    score: float
    """0 (alike) to 1 (nothing in common)."""
    floor: float
    p_value: float
    alpha: float = ALPHA

    @property
    def drifted(self) -> bool:
        """Whether it is far enough to matter, and not by chance."""
        return self.score >= self.floor and self.p_value < self.alpha


def number_distance(before: npt.ArrayLike, after: npt.ArrayLike) -> Distance:
    """Return Kolmogorov's distance of two samples of numbers, and how often chance makes a larger one.

    Source: Smirnov 1939; the p-value is that of large samples, which is on the safe side where values repeat.

    >>> number_distance([1.0, 2.0], [1.0, 2.0]).score
    0.0
    """
    found: Any = stats.ks_2samp(np.asarray(before, np.float64), np.asarray(after, np.float64), method="asymp")
    return Distance(float(found.statistic), NUMBER_FLOOR, float(found.pvalue))


def category_distance(before: npt.ArrayLike, after: npt.ArrayLike) -> Distance:
    """Return the total variation of two samples of categories, and how often chance makes a larger difference.

    Source: Pearson 1900 (the chi-square test of homogeneity).

    >>> category_distance(["a", "b"], ["a", "b"]).score
    0.0
    """
    sides = [np.asarray(side, dtype=np.str_) for side in (before, after)]
    _, code_N = np.unique(np.concatenate(sides), return_inverse=True)
    categories = int(code_N.max()) + 1
    count_SC = np.stack([np.bincount(part, minlength=categories) for part in np.split(code_N, [len(sides[0])])]).astype(
        np.float64
    )
    share_SC = count_SC / count_SC.sum(axis=1, keepdims=True)
    return Distance(float(np.abs(share_SC[0] - share_SC[1]).sum() / 2), CATEGORY_FLOOR, _homogeneity(count_SC))


def _homogeneity(count_SC: npt.NDArray[np.float64]) -> float:
    expected_C = count_SC.sum(axis=0) * count_SC.sum(axis=1).min() / count_SC.sum()
    rare_C = expected_C < MIN_EXPECTED
    pooled_SC = np.column_stack([count_SC[:, ~rare_C], count_SC[:, rare_C].sum(axis=1)])
    pooled_SC = pooled_SC[:, pooled_SC.sum(axis=0) > 0]
    if pooled_SC.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(pooled_SC, correction=False).pvalue)
