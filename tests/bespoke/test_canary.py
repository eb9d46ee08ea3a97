"""Whether a new version does worse: found where it does, and left alone where it does not."""

from collections.abc import Sequence

import numpy as np
import pytest

from bespoke.experiments import BUCKETS, EDGES_MS, GuardSettings, Health, bucket_of, total, worse

SETTINGS = GuardSettings()


def health(count: int, *, errors: int = 0, missed: int = 0, ms: Sequence[float] = (5.0,)) -> Health:
    """Return counts of requests that took ``ms`` in turn."""
    latency = [0] * BUCKETS
    for n in range(count):
        latency[bucket_of(ms[n % len(ms)])] += 1
    return Health(count, errors, missed, tuple(latency))


def test_quantiles_are_the_edges_above_them() -> None:
    found = health(100, ms=[*[1.0] * 98, 50.0, 700.0])
    assert found.quantile_ms(0.5) == next(edge for edge in EDGES_MS if edge >= 1.0)
    assert 50.0 <= found.quantile_ms(0.99) < 60.0
    assert (Health().quantile_ms(0.99), health(1, ms=[1e9]).quantile_ms(0.5)) == (0.0, EDGES_MS[-1])
    assert total([]) == Health()
    assert total([found, found]).latency[bucket_of(1.0)] == 196


@pytest.mark.parametrize("count", [20, 1_000, 100_000])
def test_a_version_that_always_fails_is_found_within_few_requests(count: int) -> None:
    found = worse(health(count, errors=count), health(1_000, errors=1), SETTINGS)
    assert found is not None and found.measure == "errors"
    assert f"100.00% of {count} requests, against 0.10% of 1000" in found.words


def test_a_few_percent_of_errors_are_found_and_less_than_a_point_more_is_left_alone() -> None:
    assert worse(health(2_000, errors=60), health(2_000, errors=4), SETTINGS) is not None
    assert worse(health(100_000, errors=900), health(100_000), SETTINGS) is None


def test_missed_deadlines_count_from_five_points_more() -> None:
    found = worse(health(1_000, missed=100), health(1_000), SETTINGS)
    assert found is not None and found.measure == "missed deadlines"
    assert worse(health(10_000, missed=400), health(10_000), SETTINGS) is None


def test_a_slow_tail_is_found_and_a_little_slower_is_left_alone() -> None:
    usual = [*[10.0] * 97, 20.0, 20.0, 20.0]
    found = worse(health(2_000, ms=[*[10.0] * 95, *[90.0] * 5]), health(2_000, ms=usual), SETTINGS)
    assert found is not None and found.measure == "latency"
    assert worse(health(2_000, ms=[ms * 1.2 for ms in usual]), health(2_000, ms=usual), SETTINGS) is None
    # Twice as slow, and still less than ten milliseconds more.
    assert worse(health(2_000, ms=[4.0]), health(2_000, ms=[2.0]), SETTINGS) is None
    assert worse(health(299, ms=[900.0]), health(2_000, ms=usual), SETTINGS) is None


def test_nothing_is_said_where_there_is_nothing_to_compare_with() -> None:
    assert worse(health(1_000, errors=1_000), Health(), SETTINGS) is None
    assert worse(Health(), health(1_000), SETTINGS) is None


def test_versions_that_are_alike_are_left_alone_over_many_looks() -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(200):
        arms = [Health(), Health()]
        for _ in range(40):
            arms = [total([arm, _random(rng, 100)]) for arm in arms]
            if worse(arms[0], arms[1], SETTINGS):
                alarms += 1
                break
    assert alarms <= 2


def _random(rng: np.random.Generator, count: int) -> Health:
    """Return requests with a heavy tail of latency, a point of errors and two of missed deadlines."""
    found = np.bincount([bucket_of(ms) for ms in rng.lognormal(2.0, 0.8, count)], minlength=BUCKETS)
    return Health(count, int(rng.binomial(count, 0.01)), int(rng.binomial(count, 0.02)), tuple(found.tolist()))
