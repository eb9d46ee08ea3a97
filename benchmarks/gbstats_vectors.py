"""Freezes what gbstats says of drawn data, for our figures to be held against.

    python3.11 -m venv /tmp/gbstats && /tmp/gbstats/bin/pip install gbstats==0.8.0
    /tmp/gbstats/bin/python benchmarks/gbstats_vectors.py > benchmarks/gbstats_vectors.json

It runs in an environment of its own, where Bespoke is not installed.
"""

import json
import sys
from typing import Any

import numpy as np
from gbstats.bayesian.tests import EffectBayesianABTest, EffectBayesianConfig, GaussianPrior
from gbstats.frequentist.tests import FrequentistConfig, SequentialConfig, SequentialTwoSidedTTest, TwoSidedTTest
from gbstats.models.statistics import (
    ProportionStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
)
from gbstats.utils import check_srm

SIZES = ((40, 60), (150, 30))
TUNED = 5_000


def mean(values: Any) -> Any:
    """Return gbstats' statistic of a mean."""
    return SampleMeanStatistic(n=len(values), sum=float(values.sum()), sum_squares=float((values**2).sum()))


def statistic(kind: str, values: Any, others: Any) -> Any:
    """Return gbstats' statistic of one arm."""
    if kind == "mean":
        return mean(values)
    if kind == "share":
        return ProportionStatistic(n=len(values), sum=int(values.sum()))
    products = float((values * others).sum())
    if kind == "ratio":
        return RatioStatistic(
            n=len(values), m_statistic=mean(values), d_statistic=mean(others), m_d_sum_of_products=products
        )
    return RegressionAdjustedStatistic(
        n=len(values),
        post_statistic=mean(values),
        pre_statistic=mean(others),
        post_pre_sum_of_products=products,
        theta=0,
    )


def drawn(kind: str, units: int, lift: float, random: Any) -> tuple[Any, Any]:
    """Return an arm's values, and its denominators or what was before."""
    if kind == "share":
        return (random.random(units) < 0.3 * lift).astype(float), np.zeros(units)
    others = random.gamma(2.0, 3.0, units) + 1
    return lift * others * random.uniform(0.2, 1.0, units) + random.exponential(1.0, units), others


def says(kind: str, arms: Any, *, relative: bool) -> dict[str, Any]:
    """Return what gbstats' tests say of two arms."""
    how = "relative" if relative else "absolute"

    def pair() -> list[Any]:
        # Tests write their coefficient into what they are given.
        return [statistic(kind, *arm) for arm in arms]

    fixed = TwoSidedTTest(*pair(), FrequentistConfig(difference_type=how)).compute_result()
    looked = SequentialTwoSidedTTest(
        *pair(), SequentialConfig(difference_type=how, sequential_tuning_parameter=TUNED)
    ).compute_result()
    flat, prior = (
        EffectBayesianABTest(
            *pair(),
            EffectBayesianConfig(
                difference_type=how,
                prior_type=how,
                prior_effect=GaussianPrior(mean=0.05, variance=0.04, proper=proper),
            ),
        ).compute_result()
        for proper in (False, True)
    )
    return {
        "fixed": [fixed.expected, *fixed.ci, fixed.p_value],
        "sequential": [*looked.ci, looked.p_value],
        "flat": [flat.expected, *flat.ci, flat.chance_to_win, *flat.risk],
        "prior": [prior.expected, *prior.ci, prior.chance_to_win, *prior.risk],
    }


def main() -> None:
    """Print all vectors."""
    random = np.random.default_rng(20261124)
    cases = []
    for kind in ("mean", "share", "ratio", "adjusted"):
        for sizes in SIZES:
            arms = [drawn(kind, units, lift, random) for units, lift in zip(sizes, (1.0, 1.15), strict=True)]
            for relative in (False, True):
                given = [[np.round(part, 6).tolist() for part in arm] for arm in arms]
                rounded = [[np.array(part) for part in arm] for arm in given]
                said = {
                    name: [float(x) for x in values] for name, values in says(kind, rounded, relative=relative).items()
                }
                cases.append({"kind": kind, "relative": relative, "arms": given, **said})
    counts = [([5000, 5100], [1, 1]), ([100, 210, 290], [0.2, 0.3, 0.5]), ([10, 12], [0.5, 0.5])]
    ratios = [{"counts": c, "shares": s, "p_value": float(check_srm(c, s))} for c, s in counts]
    json.dump({"gbstats": "0.8.0", "tuned": TUNED, "cases": cases, "sample_ratios": ratios}, sys.stdout)


if __name__ == "__main__":
    main()
