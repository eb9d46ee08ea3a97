"""One arm of an experiment in four figures, whatever its metric is: a mean, a share, a ratio, a quantile.

Every metric is brought to *contributions*: one number per unit whose mean is the metric's value, and whose variance
over units gives its standard error. What compares arms then needs to know means only. U is the number of units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arm:
    """What is known of an arm."""

    units: int
    value: float
    """The metric: the mean of the contributions."""
    variance: float
    """Of one unit's contribution; the value's own is so much divided by ``units``."""
    third: float = 0.0
    """Third central moment of one unit's contribution: how lopsided the metric is."""
    base: float | None = None
    """What a relative difference is taken of, where it is not ``value``: the value before an adjustment."""

    @classmethod
    def of(cls, contributions_U: npt.ArrayLike, *, base: float | None = None) -> "Arm":
        """Return the arm of contributions; without any, its value is 0 and nothing is known of it.

        Raises:
            ValueError: a contribution is NaN or infinite.

        >>> Arm.of([1.0, 2.0, 3.0])
        Arm(units=3, value=2.0, variance=1.0, third=0.0, base=None)
        """
        values_U = checked(contributions_U)
        units = len(values_U)
        if not units:
            return cls(0, 0.0, 0.0, 0.0, base)
        value = float(values_U.mean())
        off_U = values_U - value
        variance = float(off_U @ off_U) / (units - 1) if units > 1 else 0.0
        return cls(units, value, variance, float((off_U**3).mean()), base)

    @classmethod
    def of_share(cls, successes: int, units: int) -> "Arm":
        """Return the arm of a yes or no per unit, with the variance of a binomial, p (1 - p).

        >>> Arm.of_share(1, 4).variance
        0.1875
        """
        if not 0 <= successes <= units:
            raise ValueError(f"got {successes} successes of {units} units, expected 0 to {units}")
        share = successes / units if units else 0.0
        spread = share * (1 - share)
        return cls(units, share, spread, spread * (1 - 2 * share))

    @property
    def relative_to(self) -> float:
        """What relative differences are taken of."""
        return self.value if self.base is None else self.base

    @property
    def squared_error(self) -> float:
        """Square of the value's standard error; 0 without units."""
        return self.variance / self.units if self.units else 0.0


def checked(values: npt.ArrayLike) -> Values:
    """Return ``values`` as one dimension of finite numbers.

    Raises:
        ValueError: they are not.
    """
    array: Values = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"got values of shape {array.shape}, expected one dimension")
    if not np.isfinite(array).all():
        raise ValueError("values hold NaN or infinity; give 0 or leave those units out")
    return array


def ratio_contributions(numerators_U: npt.ArrayLike, denominators_U: npt.ArrayLike) -> Values:
    """Return contributions to a ratio of sums, such as clicks per list where people see different numbers of lists.

    The delta method, written per unit: with R = sum(n) / sum(d), unit u contributes R + (n_u - R d_u) / mean(d).
    Source: Deng, Knoblich and Lu 2018, "Applying the Delta Method in Metric Analytics", section 2.

    Raises:
        ValueError: the denominators sum to nothing.

    >>> ratio_contributions([1.0, 1.0], [2.0, 2.0])
    array([0.5, 0.5])
    """
    numerators_U, denominators_U = checked(numerators_U), checked(denominators_U)
    mean = float(denominators_U.mean()) if len(denominators_U) else 0.0
    if mean <= 0:
        raise ValueError("a ratio needs denominators above 0: nobody has any")
    ratio = float(numerators_U.mean()) / mean
    contributions: Values = ratio + (numerators_U - ratio * denominators_U) / mean
    return contributions


def quantile_contributions(values_U: npt.ArrayLike, *, q: float) -> Values:
    """Return contributions to a quantile over units.

    Each unit stands on one side of the quantile; how much that moves it is read off the distance between the order
    statistics that enclose it with 95% (binomial), so that no density has to be estimated.
    Source: Price and Bonett 2001, "Estimating the variance of the sample median".

    Args:
        values_U: a value per unit.
        q: which quantile, above 0 and below 1.

    Raises:
        ValueError: there are too few units for such a quantile.
    """
    ordered_U = np.sort(checked(values_U))
    units = len(ordered_U)
    low, high = stats.binom.interval(0.95, units, q) if units else (0, 0)
    if not 0 < q < 1 or low < 1 or high >= units:
        raise ValueError(f"the quantile {q:g} of {units} units cannot be enclosed; more units are needed")
    value = float(np.quantile(ordered_U, q))
    enclosed = float(stats.binom.cdf(high - 1, units, q) - stats.binom.cdf(low - 1, units, q))
    error = float(ordered_U[int(high)] - ordered_U[int(low) - 1]) / (2 * float(stats.norm.ppf(0.5 + enclosed / 2)))
    side_U = np.where(np.asarray(values_U, dtype=np.float64) <= value, q - 1, q)
    side_U -= side_U.mean()
    spread = float(np.sqrt(side_U @ side_U / (units - 1)))
    contributions: Values = value + side_U * (error * np.sqrt(units) / spread if spread else 0.0)
    return contributions


def adjusted(parts: Sequence[npt.ArrayLike], before: Sequence[npt.ArrayLike]) -> list[Values]:
    """Return contributions without what could be foretold from before the experiment (CUPED).

    One coefficient for all arms, so that arms stay comparable: the covariance of all units over the variance of
    what was before. Means of all units together do not move. Without spread in either, nothing changes.
    Source: Deng, Xu, Kohavi and Walker 2013, "Improving the Sensitivity of Online Controlled Experiments by Utilizing
    Pre-Experiment Data", section 3.

    Args:
        parts: contributions by arm.
        before: a number per unit from before its first exposure, by arm.

    Raises:
        ValueError: lengths differ.
    """
    contributions, covariates = [checked(part) for part in parts], [checked(part) for part in before]
    if [len(part) for part in contributions] != [len(part) for part in covariates]:
        raise ValueError("an adjustment needs one number from before for each unit")
    joint_post, joint_pre = np.concatenate(contributions), np.concatenate(covariates)
    theta = adjustment_factor(joint_post, joint_pre)
    centre = float(joint_pre.mean()) if len(joint_pre) else 0.0
    return [post - theta * (pre - centre) for post, pre in zip(contributions, covariates, strict=True)]


def adjustment_factor(post_U: Values, pre_U: Values) -> float:
    """Return the slope of ``post_U`` on ``pre_U``; 0 where either does not vary."""
    if len(pre_U) < 2:
        return 0.0
    off_pre, off_post = pre_U - pre_U.mean(), post_U - post_U.mean()
    spread = float(off_pre @ off_pre)
    return float(off_post @ off_pre) / spread if spread > 0 and off_post.any() else 0.0


def capped(parts: Sequence[npt.ArrayLike], *, share: float) -> list[Values]:
    """Return values with those beyond a quantile of all arms together pulled in to it (winsorised).

    Args:
        parts: values by arm.
        share: the quantile, such as 0.99.
    """
    values = [checked(part) for part in parts]
    together = np.concatenate(values)
    if not len(together):
        return values
    cap: Any = np.quantile(together, share)
    return [np.minimum(part, cap) for part in values]
