"""popularity, buy_again and the blend over them."""

from collections.abc import Callable

import numpy as np
import pytest

from bespoke.errors import TrainingError
from bespoke.events import ItemId
from bespoke.models.base import History, Interactions, Model
from bespoke.models.blend import WEIGHT_GRID, Blend, BlendConfig
from bespoke.models.buy_again import BuyAgain, BuyAgainConfig
from bespoke.models.index import top_k
from bespoke.models.popularity import Popularity, PopularityConfig


def ranking(model: Model, history: History) -> list[str]:
    return [model.vocabulary.ids[row] for row in top_k(model.scores(history), k=len(model.vocabulary))]


@pytest.fixture
def shop(learn_from: Callable[..., Interactions]) -> Interactions:
    """Item a is taken by four people, b by three, c by two, d by one."""
    return learn_from(
        [(f"u{user}", item) for item, people in zip("abcd", (4, 3, 2, 1), strict=True) for user in range(people)]
    )


def test_popularity_counts_halve_with_age(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    aged = learn_from([("u", "a"), ("v", "a"), ("u", "b")], age_days=20)
    model = Popularity.fit(aged, config=PopularityConfig(half_life_days=10), at_ms=at_ms)
    assert model.popularity_I.tolist() == [0.5, 0.25]


def test_buy_again_puts_own_items_by_frequency_before_popular_ones(
    shop: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = BuyAgain.fit(shop, at_ms=at_ms)
    assert ranking(model, history_of("d", "d", "c")) == ["d", "c", "a", "b"]


def test_buy_again_forgets_by_its_half_life(shop: Interactions, history_of: Callable[..., History], at_ms: int) -> None:
    history = history_of("d", "d", "d", "c", ages_days=[30, 30, 30, 1])
    slow, fast = (BuyAgain.fit(shop, config=BuyAgainConfig(personal_half_life_days=d), at_ms=at_ms) for d in (90, 10))
    assert ranking(slow, history)[0] == "d" and ranking(fast, history)[0] == "c"


def test_buy_again_settles_ties_by_popularity(
    shop: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    assert ranking(BuyAgain.fit(shop, at_ms=at_ms), history_of("d", "b", "c")) == ["b", "c", "d", "a"]


def test_blend_scores_are_the_weighted_sum_of_its_sources(
    shop: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = Blend.fit(shop, config=BlendConfig(factors=3, personal_half_life_days=10), at_ms=at_ms)
    model = model.with_weights(np.array([2.0, 0.5, 0.25], dtype=np.float32))
    history = history_of("d", "d", ages_days=[10, 20])
    personal_I = np.sqrt([0, 0, 0, 0.75])
    popular_I = np.sqrt(np.array([4, 3, 2, 1]) / 4)
    expected_I = 2.0 * personal_I + 0.5 * model.als.scores(history) + 0.25 * popular_I
    np.testing.assert_allclose(model.scores(history), expected_I, rtol=1e-5)


def test_learned_weights_lean_on_the_source_that_was_right(
    shop: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    blend = Blend.fit(shop, config=BlendConfig(factors=3), at_ms=at_ms)
    history = history_of("d", "c", ages_days=[0, 20])
    faithful, crowd = ([(history, {ItemId(item)})] for item in ("d", "a"))
    assert ranking(blend.with_learned_weights(faithful, k=1), history)[0] == "d"
    assert ranking(blend.with_learned_weights(crowd, k=1), history)[0] == "a"


def test_learned_weights_come_from_the_grid_and_leave_the_rest_alone(
    shop: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    blend = Blend.fit(shop, config=BlendConfig(factors=3), at_ms=at_ms)
    learned = blend.with_learned_weights([(history_of("b"), {ItemId("c"), ItemId("never-seen")})])
    assert any(np.allclose(learned.weights_S, weights) for weights in WEIGHT_GRID)
    assert learned.als is blend.als


def test_learning_weights_needs_baskets(shop: Interactions, at_ms: int) -> None:
    with pytest.raises(TrainingError, match="no baskets"):
        Blend.fit(shop, config=BlendConfig(factors=3), at_ms=at_ms).with_learned_weights([])
