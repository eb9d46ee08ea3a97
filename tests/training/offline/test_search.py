"""The search for settings: it finds what suits either kind of data, keeps to its time, and grows what pays."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bespoke.models.als import AlsConfig
from bespoke.models.popularity import PopularityConfig
from training.offline import search as search_module
from training.offline.budget import Budget
from training.offline.estimator import Estimator, near
from training.offline.files import World
from training.offline.measure import Task
from training.offline.ranking import Rules
from training.offline.search import Search, Trial
from training.offline.splits import relevant_pairs, validation
from training.offline.starts import half_lives, starts, typical_weight, weights_differ
from training.search_space import Choices, Range

MakeWorld = Callable[..., World]
DAY_S = 86_400


class Clock:
    """Goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def blocks(people: int = 30, items: int = 24, groups: int = 3) -> list[tuple[str, str]]:
    """People of a group take all items of their group, and no others."""
    return [(f"u{user:02d}", f"i{item:02d}") for user in range(people) for item in range(user % groups, items, groups)]


@pytest.fixture
def search(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Search]:
    """Makes a short search over als on people of three tastes."""
    for name, value in {"TPE_TRIALS": 2, "MOST_EPOCHS": 4, "FIRST_FACTORS": 4}.items():
        monkeypatch.setattr(search_module, name, value)

    def make(*, clock: Clock | None = None, limit_s: float = 1e9, space: dict[str, Any] | None = None) -> Search:
        found = world(blocks(), [("u00", "i03")] * 30)
        assert found.test is not None
        inner = validation(found.train, found.test, seed=0)
        assert inner is not None
        pairs = relevant_pairs(inner.train, inner.test, repeats=False)
        task = Task(Rules(inner.train, False), pairs, {}, (5,))
        budget = Budget(limit_s, clock or Clock())
        return Search("als", task, budget, limit_s, 0, lambda _: None, space or {})

    return make


def test_a_search_ends_with_settings_that_tell_tastes_apart(search: Callable[..., Search]) -> None:
    found = search(space={"alpha0": Range(low=0.01, high=1.0, log=True)})
    found.run()
    assert found.best is not None and found.best.score > 0.9
    assert len({str(sorted(trial.settings.items())) for trial in found.trials}) == len(found.trials)


def test_equal_seeds_try_and_find_the_same(search: Callable[..., Search]) -> None:
    space = {"alpha0": Range(low=0.01, high=1.0, log=True)}
    one, other = search(space=space), search(space=space)
    one.run()
    other.run()
    tried, again = ([(trial.settings, trial.score) for trial in some.trials] for some in (one, other))
    assert tried == again


def test_out_of_time_nothing_is_tried(search: Callable[..., Search]) -> None:
    late = search(limit_s=0.5)
    late.run()
    assert late.best is None


def test_a_search_keeps_to_its_time(search: Callable[..., Search]) -> None:
    clock = Clock()
    found = search(clock=clock, limit_s=400.0)
    found.run()
    longest = max(trial.seconds for trial in found.trials)
    assert found.trials and clock.now < 400.0 + longest


def test_settings_that_the_model_refuses_are_passed_over(search: Callable[..., Search]) -> None:
    found = search()
    found._until_s = 1e9
    assert found.attempt({"factors": 0}) is None and not found.trials


def test_tables_grow_while_that_pays_and_the_space_allows(search: Callable[..., Search]) -> None:
    found = search(space={"factors": Choices(choices=(4, 8))})
    found.run()
    assert {trial.settings["factors"] for trial in found.trials} == {4, 8}


def test_the_choice_is_one_that_can_still_be_trained_and_ranked(search: Callable[..., Search]) -> None:
    found = search(limit_s=100.0)
    quick = Trial({"factors": 4}, 0.1, 2, seconds=2.0, fit_s=1.0, rank_s=1.0)
    found.trials = [quick, replace(quick, score=0.9, fit_s=1000.0)]
    assert found.chosen() is quick
    found.end_s = 5000.0
    assert found.chosen() is found.trials[1]


def test_half_lives_follow_the_time_that_lines_span(world: MakeWorld) -> None:
    hour = world([("a", "x", 0), ("a", "y", 3600)]).train
    decade = world([("a", "x", 0), ("a", "y", 3650 * DAY_S)]).train
    assert max(half_lives(AlsConfig, hour)["half_life_days"]) == pytest.approx(1 / 24, rel=0.01)
    assert half_lives(AlsConfig, decade)["half_life_days"][:2] == (0.0, 1220.0)
    assert half_lives(PopularityConfig, world([("a", "x")]).train) == {"half_life_days": (3650.0,)}


def test_starting_points_go_with_the_weight_of_pairs(world: MakeWorld) -> None:
    light, heavy = (starts("als", repeats=False, weight=weight)[0] for weight in (1.0, 5.0))
    assert heavy["alpha0"] == pytest.approx(5 * light["alpha0"])
    assert starts("als", repeats=True)[0] != light
    assert starts("unheard-of", repeats=True) == [{}]
    train = world([("a", "x"), ("a", "x"), ("b", "x"), ("b", "x"), ("b", "y")]).train
    assert typical_weight(train, AlsConfig()) == 2.0
    assert weights_differ(train, AlsConfig())
    assert not weights_differ(world([("a", "x"), ("b", "x")]).train, AlsConfig())


@pytest.mark.parametrize("points", [[(0.05, 1.0), (0.5, 0.2)], []])
def test_the_estimator_suggests_what_lies_near(points: Sequence[tuple[float, float]]) -> None:
    space = {"alpha0": near(Range(low=0.001, high=10.0, log=True).distribution(), 0.05)}
    one, same = Estimator(space, seed=3), Estimator(space, seed=3)
    for estimator in (one, same):
        for value, score in points:
            estimator.teach({"alpha0": value}, score)
    asked = [one.ask().params for _ in range(5)]
    assert asked == [same.ask().params for _ in range(5)]
    assert all(0.05 / 6 <= params["alpha0"] <= 0.3 for params in asked)
