"""Paired differences and their intervals."""

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

from bespoke.statistics.paired import clustered_difference, paired_difference


def test_a_plain_interval_equals_students() -> None:
    random = np.random.default_rng(0)
    ones, others = random.normal(1, 1, 40), random.normal(0, 1, 40)
    low, high = stats.ttest_rel(ones, others).confidence_interval(0.9)
    result = paired_difference(ones, others, confidence=0.9)
    assert (result.mean, result.low, result.high) == pytest.approx((np.mean(ones - others), low, high))
    assert (result.cases, result.clusters) == (40, 40)


def test_clusters_of_one_case_each_are_plain_pairs() -> None:
    ones, others = [1.0, 4.0, 2.0], [0.0, 1.0, 3.0]
    assert clustered_difference(ones, others, ["a", "b", "c"]) == paired_difference(ones, others)


def test_repeating_every_case_of_a_person_adds_no_certainty() -> None:
    ones, others, people = [1.0, 4.0, 2.0], [0.0, 1.0, 3.0], ["a", "b", "c"]
    once, thrice = (clustered_difference(ones * n, others * n, people * n) for n in (1, 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert paired_difference(ones * 3, others * 3).low > thrice.low


def test_a_clustered_interval_equals_the_case_worked_out_by_hand() -> None:
    # Differences 1, 3 of one person and 2, 6 of another: mean 3, summed residuals -2 and 2.
    result = clustered_difference([1, 3, 2, 6], [0, 0, 0, 0], ["a", "a", "b", "b"])
    margin = stats.t.ppf(0.975, 1) * sqrt(2 / 1 * (4 + 4) / 16)
    assert (result.mean, result.low, result.high) == pytest.approx((3, 3 - margin, 3 + margin))


def test_the_interval_covers_as_often_as_it_says() -> None:
    random, people = np.random.default_rng(1), np.repeat(np.arange(60), 4)
    covered = 0
    for _ in range(400):
        values = random.normal(0, 1, 60)[people] + random.normal(0, 1, 240)
        result = clustered_difference(values, np.zeros(240), people.tolist())
        covered += result.low <= 0 <= result.high
    assert covered / 400 == pytest.approx(0.95, abs=0.04)


def test_one_person_says_nothing_about_the_spread() -> None:
    result = clustered_difference([1.0, 2.0], [0.0, 0.0], ["a", "a"])
    assert (result.low, result.high) == (-inf, inf)


@pytest.mark.parametrize(("ones", "others"), [([1.0], [1.0, 2.0]), ([], []), ([float("nan")], [1.0])])
def test_values_that_are_no_pairs_are_refused(ones: list[float], others: list[float]) -> None:
    with pytest.raises(ValueError, match="paired values"):
        paired_difference(ones, others)


def test_every_case_needs_its_cluster() -> None:
    with pytest.raises(ValueError, match="1 cluster ids for 2 cases"):
        clustered_difference([1.0, 2.0], [0.0, 0.0], ["a"])
