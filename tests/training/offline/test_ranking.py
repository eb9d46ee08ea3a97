"""Ranking in batches agrees with ranking one person at a time, and shows nothing that is ruled out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bespoke.models.als import Als, AlsConfig
from bespoke.models.buy_again import BuyAgain
from bespoke.models.index import top_k
from bespoke.models.popularity import Popularity
from training.offline import ranking
from training.offline.files import World
from training.offline.lines import Candidates
from training.offline.ranking import Rules, best_rows, hits, rank

MakeWorld = Callable[..., World]
CHECKERS = [(f"u{user}", f"i{item}") for user in range(12) for item in range(user % 2, 8, 2) if user % 4 != item // 2]


@pytest.mark.parametrize("levels", [2, 5, 10_000])
@pytest.mark.parametrize(("items", "k"), [(7, 3), (500, 20), (500, 499), (3, 10)])
def test_the_best_rows_are_those_of_one_line_at_a_time(levels: int, items: int, k: int) -> None:
    random = np.random.default_rng(levels)
    scores_BI = random.integers(0, levels, (9, items)).astype(np.float32)
    scores_BI[random.random(scores_BI.shape) < 0.3] = -np.inf
    for found_K, scores_I in zip(best_rows(scores_BI, k=k), scores_BI, strict=True):
        assert found_K[found_K >= 0].tolist() == top_k(scores_I, k=k).tolist()


def test_everything_hidden_gives_an_empty_list() -> None:
    assert best_rows(np.full((1, 4), -np.inf, dtype=np.float32), k=2).tolist() == [[-1, -1]]


def fitted(found: World) -> Als:
    return Als.fit(found.train.interactions(AlsConfig().interaction_weights), config=AlsConfig(factors=4), at_ms=1)


def test_what_people_have_had_is_shown_only_where_repeats_are_allowed(world: MakeWorld) -> None:
    found = world(CHECKERS)
    rows = found.train.user_rows
    for repeats in (False, True):
        best_SK = rank(fitted(found), rows, Rules(found.train, repeats), k=8)
        assert hits(best_SK, rows, found.train.pairs, found.train).any() == repeats
        assert (best_SK >= 0).sum() == 8 * len(rows) - (0 if repeats else len(found.train.pairs))


def test_people_like_their_neighbours_are_shown_the_colour_of_their_own(world: MakeWorld) -> None:
    found = world(CHECKERS)
    best_SK = rank(fitted(found), found.train.user_rows, Rules(found.train, False), k=1)
    for row, (item,) in zip(found.train.user_rows, best_SK, strict=True):
        assert int(found.ids.users[row][1:]) % 2 == int(found.ids.items[item][1:]) % 2


def test_batches_of_any_size_rank_alike(world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    found = world(CHECKERS)
    model, rules = fitted(found), Rules(found.train, True)
    whole_SK = rank(model, found.train.user_rows, rules, k=4)
    monkeypatch.setattr(ranking, "MAX_BATCH", 5)
    np.testing.assert_array_equal(rank(model, found.train.user_rows, rules, k=4), whole_SK)


def test_factors_from_training_rank_as_the_whole_history_does(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = world(CHECKERS)
    model, rules = fitted(found), Rules(found.train, False)
    short_SK = rank(model, found.train.user_rows, rules, k=1)
    monkeypatch.setattr(ranking, "FROM_TRAINING", frozenset())
    np.testing.assert_array_equal(rank(model, found.train.user_rows, rules, k=1), short_SK)


def test_only_candidates_are_shown(world: MakeWorld) -> None:
    found = world(CHECKERS)
    items = len(found.ids.items)
    rules = replace(Rules(found.train, True), candidates=Candidates(found.ids, np.array([0, 3, items + 1])))
    best_SK = rank(fitted(found), np.array([0, 1, 2]), rules, k=5)
    assert sorted(best_SK[0].tolist()) == [-1, -1, -1, 0, 3]
    assert best_SK[1:].tolist() == [[1, -1, -1, -1, -1], [-1] * 5]


def test_newcomers_are_shown_what_is_popular(world: MakeWorld) -> None:
    found = world([("a", "x"), ("b", "x"), ("b", "y")], [("new", "y")])
    model = Popularity.fit(found.train.interactions(AlsConfig().interaction_weights), at_ms=1)
    new = found.ids.users.index("new")
    best_SK = rank(model, np.array([new]), Rules(found.train, False), k=2)
    assert [found.ids.items[row] for row in best_SK[0]] == ["x", "y"]


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("family", [Popularity, BuyAgain])
def test_one_order_for_everybody_gives_what_scores_give(
    world: MakeWorld, monkeypatch: pytest.MonkeyPatch, family: type[Popularity], repeats: bool
) -> None:
    found = world([*CHECKERS, ("u1", "i1"), ("u3", "i1")], [("new", "i0")])
    model = family.fit(found.train.interactions(AlsConfig().interaction_weights), at_ms=1)
    rows, rules = np.arange(len(found.ids.users)), Rules(found.train, repeats)
    quick_SK = rank(model, rows, rules, k=5)
    for name in ("ALIKE", "ALIKE_BUT_OWN"):
        monkeypatch.setattr(ranking, name, frozenset())
    np.testing.assert_array_equal(rank(model, rows, rules, k=5), quick_SK)
