"""Vocabulary, interactions and the weight of a person's own items."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import TrainingError
from bespoke.events import InteractionType, ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.history import History, InteractionWeights, item_mass
from bespoke.profiles import Recent
from bespoke.vocabulary import Vocabulary


def test_a_vocabulary_refuses_repeated_ids() -> None:
    with pytest.raises(ValueError, match="1 repeated"):
        Vocabulary(["a", "b", "a"])


def test_ids_are_numbered_in_alphabetical_order_from_any_kind_of_column() -> None:
    users, items = ["v", "u", "v"], ["b", "c", "a"]
    chunked = pa.chunked_array([["b"], ["c", "a"]])
    for column in (items, np.array(items), np.array(items, dtype=object), pa.array(items), chunked):
        made = Interactions.from_columns(users, column, [1, 2, 3], [1, 1, 1])
        assert made.users.ids == ("u", "v") and made.items.ids == ("a", "b", "c")
        assert made.user_N.tolist() == [1, 0, 1] and made.item_N.tolist() == [1, 2, 0]


def test_lines_that_weigh_nothing_leave_no_ids_behind() -> None:
    made = Interactions.from_columns(["u", "v"], ["a", "b"], [1, 2], [0.0, 2.0])
    assert made.users.ids == ("v",) and made.items.ids == ("b",) and made.at_ms_N.tolist() == [2]


def test_repeated_pairs_add_up() -> None:
    made = Interactions.from_columns(["u", "u"], ["a", "a"], [1, 2], [1.0, 2.5])
    assert made.to_csr().toarray().tolist() == [[3.5]]


@pytest.mark.parametrize(
    ("users", "weights", "said"),
    [(["u"], [1, 1], "1 users"), (["u", None], [1, 1], "no id"), (["u", "v"], [1, np.nan], "NaN")],
)
def test_broken_columns_are_refused(users: list[str | None], weights: list[float], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        Interactions.from_columns(users, ["a", "b"], [1, 2], weights)


def test_every_interaction_type_has_a_weight_and_others_count_nothing() -> None:
    weights = InteractionWeights(purchase=2.0)
    assert set(weights.of_type) == set(InteractionType)
    assert weights.of(["purchase", "shrug"]).tolist() == [2.0, 0.0]


def test_the_weight_of_own_items_halves_with_age_and_adds_up(history_of: Callable[..., History]) -> None:
    mass = item_mass(
        history_of("b", "a", "b", "?", ages_days=[10, 20, 0, 0]),
        vocabulary=Vocabulary([ItemId("a"), ItemId("b")]),
        weights=InteractionWeights(),
        half_life_days=10.0,
    )
    assert mass.row_H.tolist() == [0, 1] and mass.mass_H.tolist() == [0.25, 1.5]


def test_an_interaction_type_of_weight_zero_is_no_history() -> None:
    refund = History(UserId("u"), (Recent(DAY_MS, ItemId("a"), "refund", 1.0),), DAY_MS)
    mass = item_mass(refund, vocabulary=Vocabulary([ItemId("a")]), weights=InteractionWeights(), half_life_days=None)
    assert len(mass) == 0
