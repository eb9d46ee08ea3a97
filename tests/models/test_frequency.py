"""popularity and buy_again."""

from collections.abc import Callable

import pytest

from bespoke.catalog import Item
from bespoke.events import ItemId
from bespoke.models.base import Interactions, Model
from bespoke.models.buy_again import BuyAgain, BuyAgainConfig
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.popularity import Popularity, PopularityConfig, popular_in


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


def test_what_is_popular_in_a_category_is_what_is_popular_and_available_there(shop: Interactions, at_ms: int) -> None:
    catalog = {
        ItemId("a"): Item(ItemId("a"), category=("food", "fruit")),
        ItemId("b"): Item(ItemId("b"), category=("food", "bread"), available=False),
        ItemId("c"): Item(ItemId("c"), category=("food", "bread")),
        ItemId("never-taken"): Item(ItemId("never-taken"), category=("food", "bread")),
    }
    model = BuyAgain.fit(shop, at_ms=at_ms)
    assert popular_in(model, catalog, category="food", k=5) == ["a", "c"]
    assert popular_in(model, catalog, category="bread", k=5) == ["c"]
    assert popular_in(model, catalog, category="toys", k=5) == []
