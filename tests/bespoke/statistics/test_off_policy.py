"""Off-policy estimates and interleaving, on logs whose truth is known by construction."""

import numpy as np
import pytest
from numpy.random import default_rng

from bespoke.statistics.interleaving import preference, team_draft
from bespoke.statistics.off_policy import Slots, doubly_robust, inverse_propensity, self_normalised
from bespoke.statistics.position_based import Lists, looked_at, position_based


def logged(n: int = 20_000) -> Slots:
    """Two items of rates .2 and .6; the version in force shows the first with .8, the other one the second with .9."""
    random = default_rng(0)
    item = (random.random(n) < 0.2).astype(int)
    rate, foreseen = np.array([0.2, 0.6]), np.array([0.3, 0.5])
    return Slots(
        unit=np.arange(n),
        reward=(random.random(n) < rate[item]).astype(np.float64),
        logged=np.array([0.8, 0.2])[item],
        target=np.array([0.1, 0.9])[item],
        foreseen=foreseen[item],
        foreseen_target=np.full(n, 0.1 * 0.3 + 0.9 * 0.5),
    )


@pytest.mark.parametrize("estimate", [inverse_propensity, self_normalised, doubly_robust])
def test_estimates_hold_the_truth(estimate: object) -> None:
    found = estimate(logged())  # type: ignore[operator]
    assert found.low < 0.1 * 0.2 + 0.9 * 0.6 < found.high
    assert found.width < 0.06
    assert found.warnings == ()


def test_doubly_robust_is_right_about_a_version_that_is_the_same() -> None:
    slots = logged()
    same = Slots(slots.unit, slots.reward, slots.logged, slots.logged)
    assert self_normalised(same).value == pytest.approx(float(slots.reward.mean()))


def test_few_effective_slots_and_items_never_shown_are_warned_of() -> None:
    slots = logged(300)
    few = Slots(slots.unit, slots.reward, slots.logged, np.where(np.arange(300) < 3, 1.0, 0.0))
    told = " ".join(inverse_propensity(few).warnings)
    assert "effective slots" in told and "never shown" in told


@pytest.mark.parametrize("propensity", [0.0, 1.5])
def test_propensities_that_cannot_be_are_refused(propensity: float) -> None:
    one = np.ones(1)
    with pytest.raises(ValueError, match="logged propensities"):
        Slots(np.zeros(1, dtype=np.int64), one, one * propensity, one)


def test_rewards_are_carried_over_from_place_to_place() -> None:
    # Item 0 stands first and is clicked .4 of the time; at the second place, looked at half as often, it would be .2.
    random, n = default_rng(1), 40_000
    unit = np.repeat(np.arange(n), 2)
    place = np.tile([0, 1], n)
    drawn = random.random(2 * n) < 0.2
    rate = np.where(drawn, 0.3, 0.4) * np.where(place == 0, 1.0, 0.5)
    reward = (random.random(2 * n) < rate).astype(np.float64)
    target = np.zeros((2 * n, 2))
    target[~drawn & (place == 0), 1] = 1.0
    lists = Lists(unit, place, reward, np.where(drawn, 0.4, 0.8), drawn, target)
    assert looked_at(lists)[1] == pytest.approx(0.5, abs=0.03)
    found = position_based(lists)
    # The second of two places only: .2 of one slot of two.
    assert found.low < 0.1 < found.high


def test_merged_list_holds_both_and_nothing_twice() -> None:
    random = default_rng(2)
    merged, teams = team_draft(list("abcde"), list("bafgh"), length=6, random=random)
    assert len(set(merged)) == 6
    assert abs(teams.count(0) - teams.count(1)) <= 2


def test_merged_list_ends_where_both_do() -> None:
    assert sorted(team_draft(["a"], ["a"], length=5, random=default_rng(0))[0]) == ["a"]


def test_equal_lists_are_preferred_by_nobody_in_particular() -> None:
    random, one, other = default_rng(3), 0, 0
    for _ in range(2_000):
        _, teams = team_draft(list("abcd"), list("abcd"), length=4, random=random)
        one, other = one + (teams[0] == 0), other + (teams[0] == 1)
    assert preference([1] * one + [0] * other, [0] * one + [1] * other).p_value > 0.001


def test_preference_counts_people_and_not_clicks() -> None:
    found = preference([10, 0, 0, 1], [0, 1, 1, 1])
    assert found.people == 3
    assert found.share == pytest.approx(2 / 3)
