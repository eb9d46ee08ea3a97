"""als against a dense oracle in double precision, and what its settings mean."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array

from bespoke.events import ItemId
from bespoke.models.als import Als, AlsConfig, discounted, least_squares, pair_weights, starting_tables
from bespoke.models.als_epochs import Pairs, both_sides, gram, half_epoch, objective
from bespoke.models.als_kernel import chunks
from bespoke.models.arrays import AnyArray
from bespoke.models.base import Basis, Interactions
from bespoke.models.history import History
from bespoke.models.index import top_k

EXACT = AlsConfig(factors=5, epochs=3, steps=50, alpha0=0.2, regularisation=0.05, half_life_days=0)
"""More conjugate gradient steps than factors: every row is solved, not only improved."""


@pytest.fixture
def scattered(learn_from: Callable[..., Interactions]) -> Interactions:
    random = np.random.default_rng(5)
    lines = [(f"u{user}", f"i{item}") for user, item in random.integers(0, (30, 20), (150, 2))]
    return learn_from(lines, weights=random.uniform(0.5, 3.0, len(lines)))


def solved_densely(weight_RF: AnyArray, fixed_FD: AnyArray, config: AlsConfig) -> AnyArray:
    """Solve the normal equations of each row as the objective at the top of als.py states them."""
    rows = []
    for weight_F in weight_RF:
        pull = config.regularisation * (np.count_nonzero(weight_F) + config.alpha0 * len(fixed_FD)) ** config.nu
        system_DD = (fixed_FD.T * (weight_F + config.alpha0)) @ fixed_FD + pull * np.eye(fixed_FD.shape[1])
        rows.append(np.linalg.solve(system_DD, fixed_FD.T @ weight_F))
    return np.array(rows)


@pytest.mark.parametrize("nu", [0.0, 0.5, 1.0])
def test_training_equals_a_dense_oracle(scattered: Interactions, at_ms: int, nu: float) -> None:
    config = EXACT.model_copy(update={"nu": nu})
    weight_UI = scattered.to_csr().toarray().astype(np.float64)
    _, item_ID = starting_tables(scattered, config=config, seed=1)
    for _ in range(config.epochs):
        user_UD = solved_densely(weight_UI, item_ID, config)
        item_ID = solved_densely(weight_UI.T, user_UD, config)
    model = Als.fit(scattered, config=config, at_ms=at_ms, seed=1)
    expected_UI = solved_densely(weight_UI, item_ID, config) @ item_ID.T
    np.testing.assert_allclose(model.user_UD @ model.item_ID.T, expected_UI, atol=2e-3)


def test_two_steps_per_row_end_where_exact_solves_end(scattered: Interactions, at_ms: int) -> None:
    config = EXACT.model_copy(update={"epochs": 30})
    users, items = both_sides(pair_weights(scattered, config=config, at_ms=at_ms), config=config)
    ends = []
    for steps in (2, 50):
        model = Als.fit(scattered, config=config.model_copy(update={"steps": steps}), at_ms=at_ms)
        ends.append(objective(users, items, model.user_UD, model.item_ID, config=config))
    assert ends[0] == pytest.approx(ends[1], rel=0.02)


def test_the_objective_never_rises(scattered: Interactions, at_ms: int) -> None:
    values: list[float] = []
    config = AlsConfig(factors=8, epochs=10)
    Als.fit(scattered, config=config, at_ms=at_ms, on_epoch=lambda epoch: values.append(epoch.loss))
    assert len(values) == 10
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in pairwise(values))


def test_the_objective_equals_its_definition(scattered: Interactions, at_ms: int) -> None:
    model = Als.fit(scattered, config=EXACT, at_ms=at_ms)
    users, items = both_sides(scattered.to_csr(), config=EXACT)
    dense_UI, product_UI = scattered.to_csr().toarray(), model.user_UD @ model.item_ID.T
    pull_U = 0.05 * (np.count_nonzero(dense_UI, axis=1) + 0.2 * dense_UI.shape[1]) ** 0.5
    pull_I = 0.05 * (np.count_nonzero(dense_UI, axis=0) + 0.2 * dense_UI.shape[0]) ** 0.5
    by_definition = (dense_UI * (1 - product_UI) ** 2).sum() + 0.2 * (product_UI**2).sum()
    by_definition += pull_U @ (model.user_UD**2).sum(axis=1) + pull_I @ (model.item_ID**2).sum(axis=1)
    assert objective(users, items, model.user_UD, model.item_ID, config=EXACT) == pytest.approx(by_definition, rel=1e-4)


@pytest.mark.parametrize("discounts", [{}, {"item_discount": 0.5, "user_discount": 0.25}])
def test_folding_in_equals_the_row_that_training_solved(
    learn_from: Callable[..., Interactions],
    history_of: Callable[..., History],
    at_ms: int,
    discounts: dict[str, float],
) -> None:
    lines = [(f"u{n % 7}", f"i{(3 * n) % (4 + n % 5)}") for n in range(40)]
    model = Als.fit(learn_from(lines), config=EXACT.model_copy(update=discounts), at_ms=at_ms)
    for user in model.users.ids:
        history = history_of(*(item for one, item in lines if one == user))
        row = model.users.row(user)
        factors_D = model.factors(history)
        assert row is not None and factors_D is not None
        np.testing.assert_allclose(factors_D, model.user_UD[row], atol=2e-4)


def test_weights_count_as_repeated_lines_do(
    learn_from: Callable[..., Interactions], history_of: Callable[..., History], at_ms: int
) -> None:
    once, twice = [("u", "a"), ("u", "b"), ("v", "b")], [("u", "a"), ("u", "a"), ("u", "b"), ("v", "b")]
    one = Als.fit(learn_from(once, weights=[2, 1, 1]), config=EXACT, at_ms=at_ms)
    other = Als.fit(learn_from(twice), config=EXACT, at_ms=at_ms)
    np.testing.assert_allclose(one.scores(history_of("a")), other.scores(history_of("a")), rtol=1e-4)


def test_a_discount_divides_by_how_many_there_are_and_keeps_the_total(learn_from: Callable[..., Interactions]) -> None:
    weight_UI = learn_from([("u", "a"), ("v", "a"), ("v", "b")]).to_csr()
    by_item_UI, weight_I = discounted(weight_UI, config=AlsConfig(item_discount=1))
    np.testing.assert_allclose(by_item_UI.toarray(), np.array([[0.5, 0], [0.5, 1]]) * 1.5)
    np.testing.assert_allclose(weight_I, [0.75, 1.5])
    by_user_UI, _ = discounted(weight_UI, config=AlsConfig(user_discount=1))
    np.testing.assert_allclose(by_user_UI.toarray(), np.array([[1, 0], [0.5, 0.5]]) * 1.5)


def test_a_line_of_one_half_life_counts_half(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    aged = pair_weights(learn_from([("u", "a")], age_days=30), config=AlsConfig(half_life_days=30), at_ms=at_ms)
    assert aged.toarray().tolist() == [[0.5]]


def test_a_half_life_of_zero_means_no_ageing(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    aged = pair_weights(learn_from([("u", "a")], age_days=3000), config=AlsConfig(half_life_days=0), at_ms=at_ms)
    assert aged.toarray().tolist() == [[1.0]]


def test_two_tastes_are_told_apart(checkerboard: Interactions, history_of: Callable[..., History], at_ms: int) -> None:
    model = Als.fit(checkerboard, config=AlsConfig(factors=2), at_ms=at_ms)
    for parity in (0, 1):
        newcomer = history_of(f"i{parity}", f"i{parity + 2}")
        best = [model.vocabulary.ids[row] for row in top_k(model.scores(newcomer), k=5)]
        assert {int(item[1:]) % 2 for item in best} == {parity}


def test_what_places_a_person_is_told(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = Als.fit(checkerboard, config=AlsConfig(factors=4), at_ms=at_ms)
    assert model.basis(history_of(user="u01")) is Basis.PERSON
    assert model.basis(history_of("i1", user="new")) is Basis.RECENT_ITEMS
    assert model.basis(history_of("unheard-of")) is Basis.POPULARITY


def test_a_known_person_without_usable_items_keeps_the_factors_from_training(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = Als.fit(checkerboard, config=AlsConfig(factors=4), at_ms=at_ms)
    np.testing.assert_array_equal(model.scores(history_of(user="u01")), model.item_ID @ model.user_UD[1])


def test_seeds_differ(checkerboard: Interactions, at_ms: int) -> None:
    one, other = (Als.fit(checkerboard, config=AlsConfig(epochs=1), at_ms=at_ms, seed=seed) for seed in (1, 2))
    assert not np.array_equal(one.item_ID, other.item_ID)


def test_a_row_without_interactions_becomes_zero() -> None:
    weight_RF = csr_array(np.array([[1.0, 0.0], [0.0, 0.0]], dtype=np.float32))
    solved_RD, fixed_FD = np.ones((2, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    solved_RD, _ = half_epoch(Pairs.of(weight_RF, config=EXACT), solved_RD, fixed_FD, config=EXACT)
    assert solved_RD[0].any() and not solved_RD[1].any()


@pytest.mark.parametrize("lengths", [[1], [0, 0, 5], [1000, *[0] * 50, 1], [1] * 1000])
def test_chunks_cover_every_row_once(lengths: list[int]) -> None:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    cuts = chunks(starts)
    assert cuts[0] == 0 and cuts[-1] == len(lengths) and (np.diff(cuts) > 0).all()


@pytest.mark.parametrize("items", [1, 3, 5, 6, 40])
def test_folding_in_equals_a_dense_solve(items: int) -> None:
    random = np.random.default_rng(items)
    near_HD, weight_H = random.normal(size=(items, 5)), random.uniform(1e-6, 50.0, items)
    diagonal_D = random.uniform(0.01, 100.0, 5)
    dense_D = np.linalg.solve((near_HD.T * weight_H) @ near_HD + np.diag(diagonal_D), near_HD.T @ weight_H)
    np.testing.assert_allclose(least_squares(near_HD, weight_H, diagonal_D), dense_D, rtol=1e-7)


def test_a_folded_in_person_solves_the_whole_system(
    scattered: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = Als.fit(scattered, config=EXACT, at_ms=at_ms)
    history = history_of("i3", "i8")
    item_ID = model.item_ID.astype(np.float64)
    near_HD = item_ID[model.vocabulary.rows([ItemId("i3"), ItemId("i8")])]
    pull = EXACT.regularisation * (2 + 0.2 * len(item_ID)) ** 0.5
    system_DD = 0.2 * item_ID.T @ item_ID + near_HD.T @ near_HD + pull * np.eye(5)
    factors_D = model.factors(history)
    assert factors_D is not None
    np.testing.assert_allclose(factors_D, np.linalg.solve(system_DD, near_HD.sum(axis=0)), rtol=1e-5, atol=1e-6)


def test_tables_in_another_basis_are_turned(
    scattered: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = Als.fit(scattered, config=EXACT, at_ms=at_ms)
    turn_DD = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0].astype(np.float32)
    arrays = model.arrays() | {"user_factors": model.user_UD @ turn_DD, "item_factors": model.item_ID @ turn_DD}
    turned = Als.from_arrays(arrays, vocabulary=model.vocabulary, users=model.users, config=EXACT)
    gram_DD = gram(turned.item_ID)
    assert np.abs(gram_DD - np.diag(np.diag(gram_DD))).max() < 1e-5 * np.diag(gram_DD).max()
    for history in (history_of("i3", "i8"), history_of(user="u1")):
        np.testing.assert_allclose(turned.scores(history), model.scores(history), rtol=1e-3, atol=1e-5)


def losses(model_of: Interactions, at_ms: int, config: AlsConfig, start: Als | None) -> list[float]:
    values: list[float] = []
    Als.fit(model_of, config=config, at_ms=at_ms, start=start, on_epoch=lambda epoch: values.append(epoch.loss))
    return values


def test_an_earlier_version_is_a_head_start(
    learn_from: Callable[..., Interactions], checkerboard: Interactions, at_ms: int
) -> None:
    config = AlsConfig(factors=4, epochs=4)
    earlier = Als.fit(checkerboard, config=config, at_ms=at_ms)
    lines = [(f"u{user:02d}", f"i{item}") for user in range(45) for item in range(user % 2, 12, 2) if item != user % 7]
    later = learn_from(lines)
    cold, warm = (losses(later, at_ms, config, start) for start in (None, earlier))
    assert warm[0] < cold[0] and warm[-1] == pytest.approx(cold[-1], rel=0.01)


def test_an_earlier_version_of_another_size_is_left_aside(checkerboard: Interactions, at_ms: int) -> None:
    other = Als.fit(checkerboard, config=AlsConfig(factors=3), at_ms=at_ms)
    config = AlsConfig(factors=4, epochs=1)
    assert losses(checkerboard, at_ms, config, other) == losses(checkerboard, at_ms, config, None)


def test_the_loss_of_an_epoch_is_the_objective(scattered: Interactions, at_ms: int) -> None:
    config = EXACT.model_copy(update={"epochs": 2, "steps": 2})
    users, items = both_sides(pair_weights(scattered, config=config, at_ms=at_ms), config=config)
    told = losses(scattered, at_ms, config, None)
    user_UD, item_ID = starting_tables(scattered, config=config, seed=0)
    for loss in told:
        user_UD, item_ID = half_epoch(users, user_UD, item_ID, config=config)
        item_ID, user_UD = half_epoch(items, item_ID, user_UD, config=config)
        assert loss == pytest.approx(objective(users, items, user_UD, item_ID, config=config), rel=1e-4)


def test_an_epochs_model_is_the_one_that_ending_there_gives(scattered: Interactions, at_ms: int) -> None:
    models = []
    longer = AlsConfig(factors=4, epochs=3)
    Als.fit(scattered, config=longer, at_ms=at_ms, on_epoch=lambda epoch: models.append(epoch.model))
    shorter = Als.fit(scattered, config=longer.model_copy(update={"epochs": 1}), at_ms=at_ms)
    np.testing.assert_allclose(models[0]().arrays()["item_factors"], shorter.item_ID, rtol=1e-3, atol=1e-5)
