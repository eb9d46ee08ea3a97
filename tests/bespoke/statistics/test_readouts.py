"""Figures of experiments: hand-computed truths, agreement with gbstats, and what read-outs say."""

import math

import numpy as np
import pytest
from numpy.random import default_rng

from benchmarks.statistics_vectors import pairs
from bespoke.statistics.arm import Arm, adjusted, capped, quantile_contributions, ratio_contributions
from bespoke.statistics.bayesian import best_of
from bespoke.statistics.difference import Undefined, benjamini_hochberg, difference, holm, too_skewed
from bespoke.statistics.metric import Metric
from bespoke.statistics.planning import detectable_effect, units_needed
from bespoke.statistics.readout import Column, Plan, Units, read_out
from bespoke.statistics.sample_ratio import sample_ratio
from bespoke.statistics.sequence import sequence


def test_every_figure_agrees_with_gbstats() -> None:
    compared = list(pairs())
    assert len(compared) > 300
    assert [name for name, ours, theirs in compared if not math.isclose(ours, theirs, rel_tol=1e-8, abs_tol=1e-8)] == []


def test_ratio_is_that_of_sums_and_not_the_mean_of_ratios() -> None:
    arm = Arm.of(ratio_contributions([1.0, 0.0], [1.0, 9.0]))
    assert arm.value == pytest.approx(0.1)


def test_ratio_of_constant_denominators_has_the_variance_of_a_mean() -> None:
    values = default_rng(0).normal(size=100)
    assert Arm.of(ratio_contributions(values, np.full(100, 2.0))).variance == pytest.approx(values.var(ddof=1) / 4)


def test_ratio_without_denominators_says_so() -> None:
    with pytest.raises(ValueError, match="nobody has any"):
        ratio_contributions([1.0], [0.0])


def test_adjusting_leaves_one_minus_rho_squared_and_does_not_move_the_mean_of_all() -> None:
    random = default_rng(1)
    before = random.normal(size=5_000)
    after = 0.8 * before + 0.6 * random.normal(size=5_000)
    (left,) = adjusted([after], [before])
    rho = np.corrcoef(before, after)[0, 1]
    assert left.var() / after.var() == pytest.approx(1 - rho**2)
    assert left.mean() == pytest.approx(after.mean())


def test_adjusting_by_what_does_not_vary_changes_nothing() -> None:
    (left,) = adjusted([np.array([1.0, 2.0])], [np.array([5.0, 5.0])])
    assert left.tolist() == [1.0, 2.0]


def test_capping_is_by_all_arms_together() -> None:
    one, other = capped([np.zeros(99), np.array([100.0])], share=0.9)
    assert one.max() == other.max() == 0.0


def test_quantile_error_is_that_of_the_normal_theory() -> None:
    arm = Arm.of(quantile_contributions(default_rng(2).normal(size=20_000), q=0.5))
    assert math.sqrt(arm.squared_error) == pytest.approx(math.sqrt(math.pi / 2 / 20_000), rel=0.1)


def test_quantile_of_too_few_units_says_so() -> None:
    with pytest.raises(ValueError, match=r"quantile 0.99 of 10 units"):
        quantile_contributions(np.arange(10.0), q=0.99)


def test_equal_arms_get_the_plain_interval_however_lopsided() -> None:
    random = default_rng(3)
    one, other = (Arm.of(random.exponential(size=500)) for _ in range(2))
    assert difference(one, other) == difference(one, other, by_skew=False)


def test_interval_and_p_value_say_the_same_where_bent() -> None:
    random = default_rng(4)
    for _ in range(50):
        found = difference(Arm.of(random.lognormal(size=900)), Arm.of(random.lognormal(size=100)))
        assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_bent_interval_reaches_further_to_where_the_tail_is() -> None:
    random = default_rng(5)
    found = difference(Arm.of(random.lognormal(size=9_000)), Arm.of(random.lognormal(size=1_000)))
    assert found.high - found.estimate > found.estimate - found.low


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0]])
def test_difference_needs_units_that_differ(values: list[float]) -> None:
    with pytest.raises(Undefined):
        difference(Arm.of(values), Arm.of(values))


def test_relative_difference_needs_something_to_be_relative_to() -> None:
    with pytest.raises(Undefined, match="value is 0"):
        difference(Arm.of([-1.0, 1.0]), Arm.of([1.0, 2.0]), relative=True)


def test_always_valid_interval_is_wider_than_the_fixed_one() -> None:
    found = difference(Arm.of_share(500, 5_000), Arm.of_share(600, 5_000))
    looked = sequence(found, units=10_000, planned=10_000)
    assert looked.low < found.low < found.high < looked.high
    assert looked.p_value > found.p_value


def test_heavy_tails_are_said_and_moderate_ones_are_not() -> None:
    random = default_rng(6)
    tame = [Arm.of(random.exponential(size=n)) for n in (5_000, 5_000)]
    wild = [Arm.of(np.where(np.arange(1_000) < 1, 1_000.0, 0.0)) for _ in range(2)]
    assert not too_skewed(*tame)
    assert too_skewed(*wild)


def test_best_of_equal_arms_is_anyone_and_of_unequal_ones_the_better() -> None:
    equal = best_of([Arm(100, 1.0, 1.0)] * 3)
    assert [round(p, 6) for p, _ in equal] == [round(1 / 3, 6)] * 3
    (worse, lost), (better, kept) = best_of([Arm(100, 1.0, 1.0), Arm(10_000, 2.0, 1.0)])
    assert better == pytest.approx(1.0)
    assert worse == pytest.approx(0.0, abs=1e-6)
    assert lost == pytest.approx(1.0)
    assert kept == pytest.approx(0.0, abs=1e-6)


def test_corrections_are_those_of_their_papers() -> None:
    p_values = [0.01, 0.02, 0.03, 0.5]
    assert holm(p_values) == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert benjamini_hochberg(p_values) == pytest.approx([0.04, 0.04, 0.04, 0.5])


def test_planned_units_are_those_of_the_textbook_and_find_the_effect() -> None:
    # Kohavi et al. 2020: 16 variance / effect^2 per arm, of which 15.7 is the unrounded form.
    assert units_needed(variance=0.04 * 0.96, effect=0.002) == pytest.approx(2 * 15.7 * 0.0384 / 0.002**2, rel=1e-3)
    units = units_needed(variance=2.0, effect=0.3, shares=(0.8, 0.2))
    assert detectable_effect(variance=2.0, units=units, shares=(0.8, 0.2)) == pytest.approx(0.3, rel=1e-3)


def test_unit_in_an_arm_that_nobody_should_get_is_a_mismatch() -> None:
    found = sample_ratio([500, 500, 1], [0.5, 0.5, 0.0])
    assert found.mismatch and "nobody should get" in found.words
    assert sample_ratio([500, 500, 0], [0.5, 0.5, 0.0]).p_value == pytest.approx(1.0)


def test_gross_mismatch_is_found_early_and_after_the_planned_end() -> None:
    assert sample_ratio([180, 60], [0.5, 0.5]).mismatch
    assert sample_ratio([103_000, 97_000], [0.5, 0.5], planned=50_000).mismatch
    assert not sample_ratio([130, 110], [0.5, 0.5]).mismatch


def units(*, lift: float = 0.0, n: int = 4_000, seed: int = 7, split: float = 0.5) -> Units:
    random = default_rng(seed)
    variant_U = (random.random(n) < split).astype(np.int64)
    before_U = random.poisson(3.0, n).astype(np.float64)
    value_U = before_U + random.poisson(1.0 + lift * variant_U, n)
    conversion, mean = (Metric.model_validate({"name": kind, "kind": kind}) for kind in ("conversion", "mean"))
    columns = (Column(mean, value_U, before_U=before_U), Column(conversion, (value_U > 5).astype(np.float64)))
    surfaces = np.where(random.random(n) < 0.5, "home", "cart").astype(object)
    return Units(("control", "new"), variant_U, columns, {"surface": surfaces})


def test_readout_finds_a_lift_and_adjusting_makes_it_surer() -> None:
    mean, conversion = read_out(units(lift=0.3), Plan((0.5, 0.5), 4_000)).metrics
    (found,) = mean.comparisons
    assert found.verdict.outcome == "better"
    assert found.variance_left is not None and found.variance_left < 0.5
    assert found.absolute.low < 0.3 < found.absolute.high
    assert found.belief.better > 0.99
    assert mean.best["new"][0] > 0.99
    assert conversion.comparisons[0].corrected_p >= conversion.comparisons[0].absolute.p_value


def test_readout_of_nothing_stays_open() -> None:
    for readout in read_out(units(), Plan((0.5, 0.5), 4_000)).metrics:
        assert readout.comparisons[0].verdict.outcome == "open"


def test_readout_where_shares_do_not_fit_trusts_nothing() -> None:
    readout = read_out(units(lift=0.3, split=0.4), Plan((0.5, 0.5), 4_000))
    assert readout.sample_ratio.mismatch
    assert {one.verdict.outcome for metric in readout.metrics for one in metric.comparisons} == {"untrusted"}


def test_cuts_hold_everybody_once() -> None:
    readout = read_out(units(), Plan((0.5, 0.5)))
    assert sum(sum(cut.units.values()) for cut in readout.cuts["surface"].values()) == 4_000


def test_less_is_better_where_the_metric_says_so() -> None:
    one = units(lift=0.3)
    less = Metric(name="refunds", kind="mean", better="less")
    (found,) = read_out(
        Units(one.variants, one.variant_U, (Column(less, one.columns[0].value_U),)), Plan((1, 1), 4_000)
    ).metrics
    assert found.comparisons[0].verdict.outcome == "worse"
    assert found.comparisons[0].belief.better < 0.01


def test_guardrail_rules_harm_out_or_finds_it() -> None:
    guardrail = Metric(name="orders", kind="mean", guardrail=True, tolerated=0.05)

    def outcome(lift: float) -> str:
        one = units(lift=lift, n=40_000)
        column = Column(guardrail, one.columns[0].value_U, before_U=one.columns[0].before_U)
        readout = read_out(Units(one.variants, one.variant_U, (column,)), Plan((0.5, 0.5), 40_000))
        return readout.metrics[0].comparisons[0].verdict.outcome

    assert (outcome(0.0), outcome(-0.6)) == ("harmless", "harmful")


def test_arm_without_anybody_is_said_and_nothing_fails() -> None:
    one = units()
    readout = read_out(Units(("control", "new", "gone"), one.variant_U, one.columns), Plan((0.5, 0.5, 0.0)))
    assert [comparison.variant for comparison in readout.metrics[0].comparisons] == ["new"]
    assert "gone" in readout.metrics[0].problem


def test_an_arm_without_anybody_keeps_no_ratio_from_being_compared() -> None:
    one = units()
    ratio, quantile = Metric(name="r", kind="ratio"), Metric(name="q", kind="quantile", q=0.5)
    ones = np.ones(len(one.variant_U))
    columns = (Column(ratio, one.columns[0].value_U, ones), Column(quantile, default_rng(8).normal(size=len(ones))))
    for found in read_out(Units(("control", "new", "gone"), one.variant_U, columns), Plan((0.5, 0.5, 0.0))).metrics:
        assert [comparison.variant for comparison in found.comparisons] == ["new"]


def test_a_guardrail_without_anything_to_be_relative_to_tolerates_nothing() -> None:
    refunds = Metric(name="refunds", kind="mean", better="less", guardrail=True, tolerated=0.02)
    variant_U = np.repeat([0, 1], 5_000)
    value_U = np.where((variant_U == 1) & (np.arange(10_000) % 100 == 0), 1.0, 0.0)
    readout = read_out(Units(("old", "new"), variant_U, (Column(refunds, value_U),)), Plan((0.5, 0.5), 10_000))
    assert readout.metrics[0].comparisons[0].verdict.outcome == "harmful"
