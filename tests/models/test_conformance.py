"""What holds for every model of the registry."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from bespoke.errors import BundleError, TrainingError
from bespoke.models.base import Basis, Interactions, Model
from bespoke.models.history import History
from bespoke.models.registry import MODELS


@pytest.fixture(params=list(MODELS.values()), ids=list(MODELS))
def family(request: pytest.FixtureRequest) -> type[Model]:
    found: type[Model] = request.param
    return found


@pytest.fixture
def model(family: type[Model], checkerboard: Interactions, at_ms: int) -> Model:
    return family.fit(checkerboard, at_ms=at_ms)


@pytest.fixture
def histories(history_of: Callable[..., History]) -> list[History]:
    known = history_of("i1", "i3", "i1", user="u01", ages_days=[1, 40, 80])
    return [known, history_of("i2"), history_of("unheard-of", user="u02"), history_of(), history_of(user="nobody")]


def test_every_item_gets_one_finite_score(model: Model, histories: list[History]) -> None:
    for history in histories:
        scores_I = model.scores(history)
        assert scores_I.shape == (10,) and scores_I.dtype == np.float32 and np.isfinite(scores_I).all()


def test_a_batch_agrees_with_single_histories(model: Model, histories: list[History]) -> None:
    singles_BI = np.stack([model.scores(history) for history in histories])
    np.testing.assert_allclose(model.scores_batch(histories), singles_BI, rtol=1e-5, atol=1e-6)
    assert model.scores_batch([]).shape == (0, 10)


def test_who_is_not_known_at_all_gets_what_is_popular(model: Model, history_of: Callable[..., History]) -> None:
    for history in (history_of(), history_of("unheard-of", user="nobody")):
        assert model.basis(history) is Basis.POPULARITY
        assert np.argmax(model.scores(history)) == model.vocabulary.row("i0")  # type: ignore[arg-type]


def test_items_that_the_model_does_not_know_change_nothing(model: Model, history_of: Callable[..., History]) -> None:
    plain, more = history_of("i2"), history_of("i2", "unheard-of")
    np.testing.assert_array_equal(model.scores(plain), model.scores(more))


def test_scoring_leaves_the_model_as_it_was(model: Model, histories: list[History]) -> None:
    before = {name: array.copy() for name, array in model.arrays().items()}
    model.scores_batch(histories)
    _assert_same(model.arrays(), before)


def test_the_same_seed_and_lines_in_any_order_give_the_same_model(
    family: type[Model], learn_from: Callable[..., Interactions], at_ms: int
) -> None:
    lines = [(f"u{(7 * n) % 11}", f"i{(5 * n) % 13}") for n in range(60)]
    one, other = (family.fit(learn_from(some), at_ms=at_ms, seed=3) for some in (lines, lines[::-1]))
    assert one.vocabulary == other.vocabulary and one.users == other.users
    _assert_same(one.arrays(), other.arrays())


def test_a_model_made_of_its_arrays_scores_alike(family: type[Model], model: Model, histories: list[History]) -> None:
    config = family.Config.model_validate(model.config.model_dump(mode="json"))
    again = family.from_arrays(model.arrays(), vocabulary=model.vocabulary, users=model.users, config=config)
    np.testing.assert_array_equal(again.scores_batch(histories), model.scores_batch(histories))


def test_arrays_that_do_not_fit_the_vocabulary_are_refused(family: type[Model], model: Model) -> None:
    for wrong in ({}, {**model.arrays(), "popularity": np.zeros(3, dtype=np.float32)}):
        with pytest.raises(BundleError):
            family.from_arrays(wrong, vocabulary=model.vocabulary, users=model.users, config=model.config)


def test_nothing_to_learn_from_is_an_error(
    family: type[Model], learn_from: Callable[..., Interactions], at_ms: int
) -> None:
    with pytest.raises(TrainingError, match="widen the window"):
        family.fit(learn_from([("u1", "i1")], weights=[0.0]), at_ms=at_ms)


def test_a_config_refuses_what_it_does_not_know(family: type[Model]) -> None:
    with pytest.raises(ValidationError):
        family.Config.model_validate({"colour": "green"})


def _assert_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
