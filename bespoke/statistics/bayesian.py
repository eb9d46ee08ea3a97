"""The same differences as probabilities: that an arm is the best one, and what choosing it would cost if it is not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bespoke.statistics.arm import Arm
from bespoke.statistics.difference import Difference

_GRID = 4_001
_REACH = 9.0
"""Standard errors beyond which nothing is left to integrate."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is held likely of a difference before there are data: a normal distribution around ``mean``."""

    sd: float
    mean: float = 0.0


@dataclass(frozen=True, slots=True)
class Belief:
    """What is held likely of a difference."""

    mean: float
    sd: float
    low: float
    high: float
    """The interval that holds it with 95%."""
    better: float
    """Probability that it is on the good side."""
    loss: float
    """What choosing the treatment is expected to lose against the better of both, in the difference's units."""
    loss_control: float
    """What staying with the control is expected to lose."""


def belief(found: Difference, *, prior: Prior | None = None, smaller_is_better: bool = False) -> Belief:
    """Return the posterior of a difference under a normal likelihood; without a prior, a flat one.

    Source: Stucchio 2015, "Bayesian A/B Testing at VWO" (expected loss); the closed form is that of a normal.
    """
    precision, weighted = 1 / found.error**2, found.estimate / found.error**2
    if prior is not None:
        precision, weighted = precision + 1 / prior.sd**2, weighted + prior.mean / prior.sd**2
    mean, sd = weighted / precision, math.sqrt(1 / precision)
    low, high = (float(edge) for edge in stats.norm.interval(0.95, mean, sd))
    side = -mean if smaller_is_better else mean
    gain, loss = _part_above(side, sd), _part_above(-side, sd)
    return Belief(mean, sd, low, high, float(stats.norm.cdf(side / sd)), loss, gain)


def _part_above(mean: float, sd: float) -> float:
    """Return the expectation of ``max(x, 0)`` for a normal x."""
    z = mean / sd
    return float(sd * stats.norm.pdf(z) + mean * stats.norm.cdf(z))


def best_of(arms: Sequence[Arm], *, smaller_is_better: bool = False) -> list[tuple[float, float]]:
    """Return for each arm the probability that it is the best of all, and its expected loss against the best.

    Flat priors, independent arms; integrated on a grid, so equal data give equal figures. Arms of which nothing is
    known make all of them unknown: (nan, nan).

    >>> [round(p, 3) for p, _ in best_of([Arm(100, 1.0, 1.0), Arm(100, 1.0, 1.0)])]
    [0.5, 0.5]
    """
    if any(arm.squared_error <= 0 for arm in arms):
        return [(math.nan, math.nan)] * len(arms)
    sign = -1.0 if smaller_is_better else 1.0
    mean_A = sign * np.array([arm.value for arm in arms])
    sd_A = np.sqrt([arm.squared_error for arm in arms])
    grid_G = np.linspace((mean_A - _REACH * sd_A).min(), (mean_A + _REACH * sd_A).max(), _GRID)
    # Where one arm is known far better than another, an even grid would step over it.
    grid_G = np.unique(
        np.concatenate(
            [grid_G, *(m + s * np.linspace(-_REACH, _REACH, _GRID) for m, s in zip(mean_A, sd_A, strict=True))]
        )
    )
    below_AG = np.asarray(stats.norm.cdf(grid_G, mean_A[:, None], sd_A[:, None]))
    all_below_G = below_AG.prod(axis=0)
    # E[max] = top - integral of P(max <= x) up to the top.
    best = grid_G[-1] - float(np.trapezoid(all_below_G, grid_G))
    found = []
    for n in range(len(arms)):
        others_G = np.delete(below_AG, n, axis=0).prod(axis=0)
        density_G = stats.norm.pdf(grid_G, mean_A[n], sd_A[n])
        found.append((float(np.trapezoid(density_G * others_G, grid_G)), best - float(mean_A[n])))
    return found
