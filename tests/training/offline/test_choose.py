"""Choosing settings of each kind, and what happens where nothing can be held out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bespoke.models.als import Als
from bespoke.models.blend import Blend, BlendConfig
from training.offline import search as search_module
from training.offline.budget import Budget
from training.offline.choose import Cases, Chooser, fitted
from training.offline.files import World
from training.offline.lines import Lines
from training.offline.measure import Task
from training.offline.ranking import Rules
from training.offline.splits import leave_last, relevant_pairs

MakeWorld = Callable[..., World]


@pytest.fixture
def train(world: MakeWorld) -> Lines:
    """Thirty people, each of whom takes the same two things in turn, and something of everybody's now and then."""
    lines = []
    for user in range(30):
        own = [f"own{user % 6}a", f"own{user % 6}b"]
        lines += [(f"u{user}", own[day % 2] if day % 6 else "common", day) for day in range(12)]
    return world(lines).train


@pytest.fixture
def chooser(train: Lines, monkeypatch: pytest.MonkeyPatch) -> Chooser:
    for name, value in {"TPE_TRIALS": 1, "MOST_EPOCHS": 2, "FIRST_FACTORS": 4}.items():
        monkeypatch.setattr(search_module, name, value)
    split = leave_last(train)
    pairs = relevant_pairs(split.train, split.test, repeats=True)
    task = Task(Rules(split.train, True), pairs, {}, (2,))
    return Chooser(task, 1.1, 1.0, Budget(1e6), 0, lambda _: None, train, True, {})


def test_each_kind_gets_settings_that_it_accepts_and_a_score(chooser: Chooser) -> None:
    for kind in ("popularity", "buy_again", "als", "blend"):
        chosen = chooser.choose(kind, end_s=1e6)
        assert chosen.kind == kind and chosen.how == "search"
        assert chosen.score is not None and chosen.trials


def test_what_people_take_again_is_found_by_those_that_count_it(chooser: Chooser) -> None:
    scores = {kind: chooser.choose(kind, end_s=1e6).score or 0.0 for kind in ("popularity", "buy_again", "blend")}
    assert scores["popularity"] < min(scores["buy_again"], scores["blend"])


def test_a_blend_takes_over_the_settings_of_als_and_what_it_learned(chooser: Chooser, train: Lines) -> None:
    als, chosen = chooser.choose("als", end_s=1e6), chooser.choose("blend", end_s=1e6)
    assert isinstance(chosen.config, BlendConfig)
    assert chosen.config.alpha0 == als.config.model_dump()["alpha0"]
    task = Task(Rules(train, True), train.pairs, {}, (2,))
    model = fitted(chosen, task, budget=Budget(1e6), end_s=1e6, seed=0).model
    assert isinstance(model, Blend) and model.learned is chosen.learned


def test_a_blend_is_scored_on_others_than_it_learned_from(chooser: Chooser, monkeypatch: pytest.MonkeyPatch) -> None:
    task = chooser.validation
    assert task is not None
    cases, taught = Cases(task, seed=0), list[np.ndarray]()

    def noted(self: Cases, model: Blend, rows: np.ndarray) -> Blend:
        taught.append(rows)
        return model

    monkeypatch.setattr(Cases, "taught", noted)
    weights = BlendConfig().interaction_weights
    cases.score(Blend.fit(task.train.interactions(weights), config=BlendConfig(factors=4, epochs=1), at_ms=13_000))
    assert sorted(np.concatenate(taught).tolist()) == cases.users.tolist()
    assert not set(taught[0].tolist()) & set(taught[1].tolist())


def test_where_nothing_can_be_held_out_the_first_guess_serves(chooser: Chooser) -> None:
    bare = replace(chooser, validation=None)
    for kind in ("popularity", "als", "blend"):
        chosen = bare.choose(kind, end_s=1e6)
        assert (chosen.how, chosen.score) == ("first guess", None)


def test_training_that_runs_out_of_time_ends_early_and_says_so(chooser: Chooser, train: Lines) -> None:
    task = Task(Rules(train, True), train.pairs, {}, (2,))
    chosen = replace(chooser.choose("als", end_s=1e6), config=Als.Config.model_validate({"factors": 4, "epochs": 50}))
    assert fitted(chosen, task, budget=Budget(1.0), end_s=-1.0, seed=0).cut_short
    assert not fitted(chosen, task, budget=Budget(1e6), end_s=1e6, seed=0).cut_short
