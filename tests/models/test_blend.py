"""blend: the weighted sum, what it learns, and what carries over."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import BundleError, TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Interactions, Model
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.blend_learning import DEFAULT_WEIGHTS, Case, Learned
from bespoke.models.blend_sources import BUCKETS, SOURCES, rebuy_rates
from bespoke.models.blend_trees import Trees
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.profiles import Recent

ITEMS = 30
PEOPLE = 400
CONFIG = BlendConfig(factors=3, candidates=20, trees=20)


def ranking(model: Model, history: History) -> list[str]:
    return [model.vocabulary.ids[row] for row in top_k(model.scores(history), k=len(model.vocabulary))]


def items(*names: str) -> set[ItemId]:
    return {ItemId(name) for name in names}


@pytest.fixture
def shop(learn_from: Callable[..., Interactions]) -> Interactions:
    """Item a is taken by four people, b by three, c by two, d by one."""
    return learn_from(
        [(f"u{user}", item) for item, people in zip("abcd", (4, 3, 2, 1), strict=True) for user in range(people)]
    )


@pytest.fixture
def blend(shop: Interactions, at_ms: int) -> Blend:
    return Blend.fit(shop, config=BlendConfig(factors=3), at_ms=at_ms)


@pytest.fixture(scope="module")
def swap() -> tuple[Blend, list[Case]]:
    """People who took two of 30 items; they go on with the one taken once and lately, not the one taken twice."""
    at_ms, random = 100 * DAY_MS, np.random.default_rng(0)
    cases: list[Case] = []
    for person in range(PEOPLE):
        often, lately = random.choice(ITEMS, 2, replace=False)
        took = [(often, 20), (often, 19), (lately, 2)]
        recent = tuple(Recent(at_ms - age * DAY_MS, ItemId(f"i{item:02d}"), "purchase", 1.0) for item, age in took)
        cases.append((History(UserId(f"u{person}"), recent, at_ms), items(f"i{lately:02d}")))
    lines = [(history.user_id, line.item_id, line.at_ms) for history, _ in cases for line in history.recent]
    users, taken, times = zip(*lines, strict=True)
    interactions = Interactions.from_columns(users, taken, times, np.ones(len(times)))
    return Blend.fit(interactions, config=CONFIG, at_ms=at_ms), cases


def test_scores_are_the_weighted_sum_of_the_sources(
    blend: Blend, history_of: Callable[..., History], shop: Interactions, at_ms: int
) -> None:
    weights_GS = np.tile(np.array([2.0, 3.0, 0.5, 0.25], dtype=np.float32), (len(BUCKETS) + 1, 1))
    model = blend.with_learned(Learned(weights_GS, Trees.none()))
    history = history_of("d", "d", ages_days=[90, 180])
    personal_I = np.sqrt([0, 0, 0, 0.75])
    popular_I = np.sqrt(np.array([4, 3, 2, 1]) / 4)
    rebuy_I = rebuy_rates(shop)
    expected_I = (2.0 + 3.0 * rebuy_I) * personal_I + 0.5 * model.als.scores(history) + 0.25 * popular_I
    np.testing.assert_allclose(model.scores(history), expected_I, rtol=1e-5)


def test_weights_go_by_the_amount_of_history(blend: Blend, history_of: Callable[..., History]) -> None:
    weights_GS = np.zeros((len(BUCKETS) + 1, len(SOURCES)), dtype=np.float32)
    weights_GS[1, SOURCES.index("popularity")] = 1.0
    weights_GS[2, SOURCES.index("personal")] = 1.0
    model = blend.with_learned(Learned(weights_GS, Trees.none()))
    assert ranking(model, history_of(*"dddd"))[0] == "a"
    assert ranking(model, history_of(*"ddddd"))[0] == "d"


def test_an_items_rebuy_rate_is_the_share_of_its_people_who_came_back_on_another_day(at_ms: int) -> None:
    people = [f"u{n}" for n in range(1000)]
    lines = [(user, "often", age) for user in people for age in (1, 2)]
    lines += [(user, "twice-a-day", 1) for user in people for _ in range(2)]
    users, taken, ages = zip(*lines, strict=True)
    times = [at_ms - age * DAY_MS for age in ages]
    rate_I = rebuy_rates(Interactions.from_columns(users, taken, times, np.ones(len(lines))))
    np.testing.assert_allclose(rate_I, [1.0, 0.0], atol=0.01)


def test_learned_weights_lean_on_the_source_that_was_right(blend: Blend, history_of: Callable[..., History]) -> None:
    history = history_of("d", "c", ages_days=[0, 20])
    faithful, crowd = ([(history, items(item))] * 2000 for item in ("d", "a"))
    assert ranking(blend.with_learned_weights(faithful, k=1), history)[0] == "d"
    assert ranking(blend.with_learned_weights(crowd, k=1), history)[0] == "a"


def test_where_nobody_repeats_anything_what_was_taken_sinks(blend: Blend, history_of: Callable[..., History]) -> None:
    cases = [(history_of(item), items(*"abcd") - items(item)) for item in "abcd"] * 500
    learned = blend.with_learned_weights(cases, k=3)
    assert all(ranking(learned, history_of(item))[-1] == item for item in "abcd")


def test_few_cases_stay_near_the_defaults(blend: Blend, history_of: Callable[..., History]) -> None:
    learned = blend.with_learned_weights([(history_of("b"), items("c", "never-seen"))]).learned
    np.testing.assert_allclose(learned.weights_GS, np.tile(DEFAULT_WEIGHTS, (len(BUCKETS) + 1, 1)), atol=0.05)
    assert not len(learned.trees)


def test_a_bucket_without_cases_has_everybodys_weights(blend: Blend, history_of: Callable[..., History]) -> None:
    cases: Sequence[Case] = [(history_of("d", "c"), items("a"))] * 2000
    weights_GS = blend.with_learned_weights(cases, k=1).learned.weights_GS
    np.testing.assert_array_equal(weights_GS[0], weights_GS[4])
    assert not np.allclose(weights_GS[0], DEFAULT_WEIGHTS, atol=0.05)


def test_learning_needs_baskets(blend: Blend) -> None:
    with pytest.raises(TrainingError, match="no baskets"):
        blend.with_learned_weights([])


def test_people_of_whom_nothing_is_known_teach_nothing(blend: Blend, history_of: Callable[..., History]) -> None:
    learned = blend.with_learned_weights([(history_of(), items("d"))] * 1000).learned
    np.testing.assert_array_equal(learned.weights_GS, Learned.default().weights_GS)


def test_trees_see_what_a_sum_cannot(swap: tuple[Blend, list[Case]]) -> None:
    model, cases = swap
    learned = model.with_learned_weights(cases[:300], k=1)
    first = [ranking(learned, history)[0] for history, _ in cases[300:]]
    assert len(learned.learned.trees) > 0
    assert np.mean([item in taken for item, (_, taken) in zip(first, cases[300:], strict=True)]) > 0.9


def test_with_trees_a_batch_equals_single_histories_and_so_does_a_model_made_of_the_arrays(
    swap: tuple[Blend, list[Case]],
) -> None:
    model, cases = swap
    learned, people = model.with_learned_weights(cases[:300], k=1), [history for history, _ in cases[300:310]]
    singles_BI = np.stack([learned.scores(history) for history in people])
    again = Blend.from_arrays(learned.arrays(), vocabulary=model.vocabulary, users=model.users, config=CONFIG)
    np.testing.assert_array_equal(learned.scores_batch(people), singles_BI)
    np.testing.assert_array_equal(again.scores_batch(people), singles_BI)


def test_learning_twice_gives_the_same(swap: tuple[Blend, list[Case]]) -> None:
    model, cases = swap
    one, other = (model.with_learned_weights(cases, k=1, seed=5).arrays() for _ in range(2))
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_what_was_learned_carries_over_to_another_model(swap: tuple[Blend, list[Case]], blend: Blend) -> None:
    learned = swap[0].with_learned_weights(swap[1], k=1).learned
    carried = blend.with_learned(learned)
    assert carried.learned is learned and carried.als is blend.als


def test_trees_that_do_not_fit_are_refused(blend: Blend) -> None:
    for trees in (
        np.zeros((2, 3, 5), np.float32),
        np.full((1, 15, 5), 99, np.float32),
        np.zeros((1, 15, 5), np.float64),
    ):
        with pytest.raises(BundleError, match="trees"):
            Blend.from_arrays(
                {**blend.arrays(), "trees": trees}, vocabulary=blend.vocabulary, users=blend.users, config=blend.config
            )
