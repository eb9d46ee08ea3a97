"""Paired differences: two versions measured on the same cases, and how sure the mean difference is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = Sequence[float] | npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its two-sided confidence interval."""

    mean: float
    low: float
    high: float
    cases: int
    clusters: int
    """Independent groups of cases; the number of cases where each stands for itself."""


def paired_difference(ones: Values, others: Values, *, confidence: float = 0.95) -> Interval:
    """Return the mean of ``ones - others`` with Student's interval; every case is taken as independent.

    Args:
        ones: a value per case.
        others: the same cases' values under the other version.
        confidence: coverage of the interval, 0..1.
    """
    difference = _differences(ones, others)
    return _interval(difference, difference - difference.mean(), confidence=confidence)


def clustered_difference(
    ones: Values, others: Values, clusters: Sequence[Any], *, confidence: float = 0.95
) -> Interval:
    """Return the mean of ``ones - others`` over cases, with an interval for clusters that are independent.

    Several baskets of one household resemble each other; taking them as independent makes the interval too narrow. The
    variance is that of the clusters' summed residuals, with Student's t on one degree of freedom per cluster but one.
    Source: Cameron and Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference".

    Args:
        ones: a value per case.
        others: the same cases' values under the other version.
        clusters: the cluster of each case, such as a user id.
        confidence: coverage of the interval, 0..1.
    """
    difference = _differences(ones, others)
    if len(clusters) != len(difference):
        raise ValueError(f"got {len(clusters)} cluster ids for {len(difference)} cases")
    ids, cluster_of = np.unique(np.asarray(clusters), return_inverse=True)
    residuals = np.zeros(len(ids))
    np.add.at(residuals, cluster_of, difference - difference.mean())
    return _interval(difference, residuals, confidence=confidence)


def _differences(ones: Values, others: Values) -> npt.NDArray[np.float64]:
    one, other = np.asarray(ones, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"paired values need one equal, positive length, got {one.shape} and {other.shape}")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("paired values hold NaN or infinity; leave such cases out of both versions")
    return one - other


def _interval(
    difference: npt.NDArray[np.float64], residuals: npt.NDArray[np.float64], *, confidence: float
) -> Interval:
    mean, groups = float(difference.mean()), len(residuals)
    if groups < 2:
        # One group says nothing about how much groups differ.
        return Interval(mean, -math.inf, math.inf, len(difference), groups)
    variance = groups / (groups - 1) * float(residuals @ residuals) / len(difference) ** 2
    margin = float(stats.t.ppf(0.5 + confidence / 2, groups - 1)) * math.sqrt(variance)
    return Interval(mean, mean - margin, mean + margin, len(difference), groups)
