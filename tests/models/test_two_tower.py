"""What two_tower promises of new people, new items, known people and where it begins."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from bespoke.catalog import Catalog, Item
from bespoke.errors import BundleError
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import Basis, Epoch, Interactions
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_lines import lines_of
from bespoke.models.two_tower_tables import Sizes, placed_again

SMALL = TwoTowerConfig(factors=16)


@pytest.fixture
def crates() -> Catalog:
    """Items of two categories; of each, the last two were never taken."""
    return {
        (id := ItemId(f"{kind}{n}")): Item(id, name=f"{kind} number {n}", category=("SHOP", kind), price=3.0)
        for kind in ("tea", "nail")
        for n in range(10)
    }


@pytest.fixture
def takers(learn_from: Callable[..., Interactions]) -> Interactions:
    """Thirty people who take tea, thirty who take nails."""
    return learn_from(
        [
            (f"{kind}-{person}", f"{kind}{(person + n) % 8}")
            for kind in ("tea", "nail")
            for person in range(30)
            for n in range(5)
        ]
    )


def test_an_item_without_interactions_is_ranked_by_content(
    takers: Interactions, crates: Catalog, history_of: Callable[..., History], at_ms: int
) -> None:
    model = TwoTower.fit(takers, config=SMALL, at_ms=at_ms, catalog=crates)
    rows = {id: model.vocabulary.row(ItemId(id)) for id in ("tea8", "tea9", "nail8", "nail9")}
    for liked, other in (("tea", "nail"), ("nail", "tea")):
        scores_I = model.scores(history_of(f"{liked}1", f"{liked}2", user="newcomer"))
        assert min(scores_I[rows[f"{liked}{n}"]] for n in (8, 9)) > max(scores_I[rows[f"{other}{n}"]] for n in (8, 9))


def test_an_untrained_id_does_not_count(takers: Interactions, crates: Catalog, at_ms: int) -> None:
    twin = Item(ItemId("tea8b"), name="tea number 8", category=("SHOP", "tea"), price=3.0)
    model = TwoTower.fit(takers, config=SMALL, at_ms=at_ms, catalog={**crates, twin.item_id: twin})
    one, other = (model.arrays()["item_vectors"][model.vocabulary.row(ItemId(id))] for id in ("tea8", "tea8b"))
    np.testing.assert_array_equal(one, other)


def test_items_that_nothing_is_known_of_come_last(
    takers: Interactions, crates: Catalog, history_of: Callable[..., History], at_ms: int
) -> None:
    bare = Item(ItemId("bare"))
    model = TwoTower.fit(takers, config=SMALL, at_ms=at_ms, catalog={**crates, bare.item_id: bare})
    assert model.vocabulary.ids[int(np.argmin(model.scores(history_of("tea1"))))] == "bare"


def test_new_people_are_placed_by_what_they_took(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = TwoTower.fit(checkerboard, config=SMALL, at_ms=at_ms)
    for parity in (0, 1):
        best = top_k(model.scores(history_of(f"i{parity}", f"i{parity + 2}")), k=5)
        assert {int(model.vocabulary.ids[row][1:]) % 2 for row in best} == {parity}


def test_known_people_are_placed_by_id_alone(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    config = SMALL.model_copy(update={"person_id_dropout": 0, "history_dropout": 0.5})
    model = TwoTower.fit(checkerboard, config=config, at_ms=at_ms)
    for user in ("u02", "u03"):
        best = top_k(model.scores(history_of(user=user)), k=4)
        assert {int(model.vocabulary.ids[row][1:]) % 2 for row in best} == {int(user[1:]) % 2}


def test_what_places_a_person_is_told(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    model = TwoTower.fit(checkerboard, config=SMALL.model_copy(update={"epochs": 1}), at_ms=at_ms)
    assert model.basis(history_of(user="u01")) is Basis.PERSON
    assert model.basis(history_of("i1", user="new")) is Basis.RECENT_ITEMS
    assert model.basis(history_of("unheard-of")) is Basis.POPULARITY


def test_without_person_ids_nothing_is_kept_per_person(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    config = TwoTowerConfig(factors=8, epochs=2, person_id_dropout=1)
    model = TwoTower.fit(checkerboard, config=config, at_ms=at_ms)
    assert len(model.users) == 0 and model.arrays()["person_ids"].shape == (0, 8)
    assert model.basis(history_of(user="u01")) is Basis.POPULARITY


def test_later_lines_count_more(checkerboard: Interactions, history_of: Callable[..., History], at_ms: int) -> None:
    model = TwoTower.fit(checkerboard, config=SMALL, at_ms=at_ms)
    odd_last = model.scores(history_of("i2", "i3", ages_days=[90, 1]))
    even_last = model.scores(history_of("i2", "i3", ages_days=[1, 90]))
    assert odd_last[1::2].mean() > odd_last[::2].mean()
    assert even_last[1::2].mean() < even_last[::2].mean()


def test_it_begins_where_als_ended(checkerboard: Interactions, history_of: Callable[..., History], at_ms: int) -> None:
    als = Als.fit(checkerboard, config=AlsConfig(factors=7), at_ms=at_ms)
    still = TwoTowerConfig(factors=8, epochs=1, learning_rate=1e-9, weight_decay=0, half_life_days=0)
    model = TwoTower.fit(checkerboard, config=still, at_ms=at_ms, start=als)
    for number, user in enumerate(als.users.ids[:10]):
        taken = [i for u, i in zip(checkerboard.user_N, checkerboard.item_N, strict=True) if u == number]
        ids = [checkerboard.items.ids[i] for i in taken]
        scores_I = model.scores(History(user, history_of(*ids).recent, at_ms))
        expected_I = als.item_ID @ als.user_UD[number]
        np.testing.assert_array_equal(np.argsort(-scores_I), np.argsort(-expected_I))


def test_a_start_is_not_told_what_is_held_out(
    checkerboard: Interactions, history_of: Callable[..., History], at_ms: int
) -> None:
    als = Als.fit(checkerboard, config=AlsConfig(factors=7, half_life_days=0), at_ms=at_ms)
    kept = history_of("i1", "i3", "i3")
    lines = lines_of([kept], vocabulary=als.vocabulary, weights=als.config.interaction_weights, limit=10)
    again = placed_again(als, Sizes(als.users, als.vocabulary, 0, 8), np.array([2], dtype=np.int32), lines)
    known = [History(user, (), at_ms) for user in als.users.ids[:4]]
    expected_BI = als.scores_batch(known)
    expected_BI[2] = als.scores(kept)
    np.testing.assert_allclose(again.scores_batch(known), expected_BI, atol=1e-4)


def test_what_training_makes_worse_is_left_as_als_had_it(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    taken = [(f"u{u}", f"i{2 * ((u + 3 * n) % 10) + u % 2}") for u in range(400) for n in range(7)]
    als = Als.fit(learn_from(taken), config=AlsConfig(factors=7), at_ms=at_ms)
    wild = TwoTowerConfig(factors=8, epochs=2, learning_rate=10)
    model = TwoTower.fit(learn_from(taken), config=wild, at_ms=at_ms, start=als)
    np.testing.assert_allclose(np.linalg.norm(model.arrays()["item_ids"], axis=1), 1, rtol=1e-5)


def test_it_goes_on_from_an_earlier_model(
    checkerboard: Interactions, learn_from: Callable[..., Interactions], at_ms: int
) -> None:
    earlier = TwoTower.fit(checkerboard, config=SMALL, at_ms=at_ms)
    still = SMALL.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
    model = TwoTower.fit(learn_from([("u03", "i1"), ("new", "i3")]), config=still, at_ms=at_ms, start=earlier)
    for name, before, now in (("item_ids", 1, 0), ("item_ids", 3, 1), ("person_ids", 3, 1)):
        np.testing.assert_allclose(model.arrays()[name][now], earlier.arrays()[name][before], atol=1e-5)


def test_a_start_of_another_size_is_left_aside(checkerboard: Interactions, at_ms: int) -> None:
    config = TwoTowerConfig(factors=8, epochs=1)
    other = TwoTower.fit(checkerboard, config=TwoTowerConfig(factors=4, epochs=1), at_ms=at_ms)
    one, same = (TwoTower.fit(checkerboard, config=config, at_ms=at_ms, start=start) for start in (None, other))
    np.testing.assert_array_equal(one.arrays()["item_ids"], same.arrays()["item_ids"])


def test_each_epoch_is_told_and_may_be_the_last(checkerboard: Interactions, at_ms: int) -> None:
    told: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> bool:
        told.append(epoch)
        return epoch.number == 3

    model = TwoTower.fit(checkerboard, config=SMALL, at_ms=at_ms, on_epoch=on_epoch)
    assert [epoch.number for epoch in told] == [1, 2, 3]
    assert told[2].loss < told[0].loss
    np.testing.assert_array_equal(told[2].model().arrays()["item_vectors"], model.arrays()["item_vectors"])


def test_it_stops_when_held_out_lines_are_ranked_no_better(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    random = np.random.default_rng(1)
    noise = learn_from([(f"u{user}", f"i{item}") for user in range(400) for item in random.integers(0, 50, 8)])
    epochs: list[int] = []
    config = TwoTowerConfig(factors=8, epochs=60, patience=2)
    TwoTower.fit(noise, config=config, at_ms=at_ms, on_epoch=lambda epoch: epochs.append(epoch.number))
    assert len(epochs) < 60


def test_arrays_of_a_wrong_number_of_buckets_are_refused(checkerboard: Interactions, at_ms: int) -> None:
    model = TwoTower.fit(checkerboard, config=SMALL.model_copy(update={"epochs": 1}), at_ms=at_ms)
    wrong = {**model.arrays(), "content": np.zeros((3, 16), dtype=np.float32)}
    with pytest.raises(BundleError, match="content"):
        TwoTower.from_arrays(wrong, vocabulary=model.vocabulary, users=model.users, config=model.config)


def test_scoring_loads_no_torch() -> None:
    code = "import sys, bespoke.models.registry; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_id_alone_and_no_id_are_no_error(checkerboard: Interactions, at_ms: int) -> None:
    model = TwoTower.fit(checkerboard, config=SMALL.model_copy(update={"epochs": 1}), at_ms=at_ms)
    np.testing.assert_array_equal(model.scores(History(UserId(""), (), at_ms)), model.popularity_I)
