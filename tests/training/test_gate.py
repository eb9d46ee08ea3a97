"""What the gate lets through: never what is shown to be worse than what serves, or no better than a baseline."""

from collections.abc import Sequence

import numpy as np
import pytest

from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.buy_again import BuyAgain
from bespoke.models.history import History
from bespoke.models.popularity import Popularity
from bespoke.models.verdict import Verdict
from bespoke.profiles import Recent
from training.champion import CHAMPION
from training.evaluate import Measured
from training.gate import METRIC, judge, require_sound

PEOPLE = 200


def showing(values: Sequence[float] | np.ndarray) -> Measured:
    """One basket a person, with these values of the gate's metric."""
    people = tuple(UserId(f"u{n}") for n in range(len(values)))
    return Measured(people, {METRIC: np.asarray(values, dtype=np.float32)}, {}, {})


def about(mean: float, *, seed: int, noise: float = 0.02) -> Measured:
    return showing(np.random.default_rng(seed).normal(mean, noise, PEOPLE))


def judged(
    candidate: Measured, champion: Measured | None = None, *, kind: str = "als", baseline: float = 0.1
) -> Verdict:
    baselines = {"buy_again": about(baseline, seed=7), "popularity": about(baseline / 2, seed=8)}
    return judge(kind, candidate, baselines if champion is None else {CHAMPION: champion, **baselines})


def test_a_clearly_better_model_passes() -> None:
    verdict = judged(about(0.3, seed=1), about(0.2, seed=2))
    assert verdict.passed and {one.against for one in verdict.comparisons} == {CHAMPION, "buy_again", "popularity"}


def test_the_same_model_again_passes() -> None:
    assert judged(about(0.3, seed=1), about(0.3, seed=1)).passed


def test_a_worse_model_is_rejected_with_the_figures() -> None:
    verdict = judged(about(0.2, seed=1), about(0.3, seed=2))
    assert not verdict.passed
    assert "not shown to be as good as the champion: ndcg@20 -0.1" in verdict.reasons[0]


def test_a_model_that_may_well_be_worse_is_rejected_although_its_mean_is_higher() -> None:
    noisy = showing(np.where(np.arange(PEOPLE) % 2, 1.0, 0.0) + 0.01)
    other = showing(np.where(np.arange(PEOPLE) % 2, 0.0, 1.0))
    assert noisy.values[METRIC].mean() > other.values[METRIC].mean()
    assert not judged(noisy, other, baseline=0.01).passed


def test_what_is_not_better_than_a_baseline_is_rejected() -> None:
    verdict = judged(about(0.1, seed=1), baseline=0.2)
    assert not verdict.passed and verdict.reasons[0].startswith("not better than buy_again")


@pytest.mark.parametrize("kind", ["popularity", "buy_again"])
def test_a_baseline_need_not_beat_baselines(kind: str) -> None:
    assert judged(about(0.01, seed=1), kind=kind).passed


def test_one_person_is_too_few_to_be_sure() -> None:
    verdict = judge("als", showing([0.9]), {CHAMPION: showing([0.1])})
    assert not verdict.passed and verdict.comparisons[0].low is None


def test_one_list_for_all_is_a_collapse() -> None:
    model = BuyAgain.fit(Interactions.from_columns(["u1", "u2"], ["i1", "i2"], [0, 0], [1, 1]), at_ms=1)
    people = {UserId(f"u{n}"): bought(f"i{n % 2 + 1}", user=f"u{n}") for n in range(30)}
    lists: dict[UserId | None, list[ItemId]] = {id: [ItemId("i1"), ItemId("i2")] for id in people}
    with pytest.raises(TrainingError, match="collapsed: 30 people"):
        require_sound(model, people, lists)
    lists[UserId("u3")] = [ItemId("i2"), ItemId("i1")]
    require_sound(model, people, lists)


def test_popularity_may_show_everybody_the_same() -> None:
    model = Popularity.fit(Interactions.from_columns(["u1", "u2"], ["i1", "i2"], [0, 0], [1, 1]), at_ms=1)
    people = {UserId(f"u{n}"): bought("i1", user=f"u{n}") for n in range(30)}
    require_sound(model, people, {id: [ItemId("i1")] for id in people})


def bought(item: str, *, user: str) -> History:
    return History(UserId(user), (Recent(0, ItemId(item), "purchase", 1.0),), 1)
