"""What lists come to: by hand, by cohort, and beside a baseline."""

from collections.abc import Callable
from math import log2

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.events import ItemId
from training.offline.files import World
from training.offline.measure import Measured, Task, by_cohort, differences, intervals, item_vectors, measured
from training.offline.ranking import Rules
from training.offline.splits import relevant_pairs

MakeWorld = Callable[..., World]
TRAIN = [("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "x")]


@pytest.fixture
def task(world: MakeWorld) -> Task:
    """a has three lines and takes w, which train does not know; b has one and takes y; n is new and takes x."""
    found = world(TRAIN, [("a", "w"), ("b", "y"), ("n", "x")])
    assert found.test is not None
    pairs = relevant_pairs(found.train, found.test, repeats=False)
    return Task(Rules(found.train, False), pairs, {}, (2,))


def lists(task: Task, *items: str) -> np.ndarray:
    rows: dict[str, int] = {item: row for row, item in enumerate(task.train.ids.items)}
    return np.array([[rows.get(one, -1) for one in some] for some in items], dtype=np.int32)


def test_items_that_train_does_not_know_still_count_as_right(task: Task) -> None:
    found = measured(lists(task, "--", "xy", "x-"), task, items=3)
    assert found.values["recall@2"].tolist() == [0, 1, 1]
    assert found.means["ndcg@2"] == pytest.approx((1 / log2(3) + 1) / 3)
    assert found.means["coverage@2"] == pytest.approx(2 / 3)


def test_people_are_parted_by_how_much_is_known_of_them(task: Task) -> None:
    cohorts = by_cohort(measured(lists(task, "--", "xy", "x-"), task, items=3), task)
    assert {name: part["n"] for name, part in cohorts.items()} == {"new": 1, "light": 1, "heavy": 1}
    assert cohorts["light"]["about"] == "1 to 2 lines in train"
    assert (cohorts["new"]["metrics"]["recall@2"], cohorts["heavy"]["metrics"]["recall@2"]) == (1, 0)


def test_the_most_popular_fifth_is_popular(task: Task) -> None:
    assert [task.train.ids.items[row] for row in np.flatnonzero(task.popular_I)] == ["x"]


def test_items_of_one_category_resemble_each_other_and_others_do_not(task: Task) -> None:
    catalog = {ItemId(one): Item(ItemId(one), category=(kind,)) for one, kind in (("x", "A"), ("y", "A"), ("z", "B"))}
    vector_ID = item_vectors(task.train, catalog)
    rows = [task.train.ids.items.index(ItemId(one)) for one in "xyz"]
    np.testing.assert_allclose(vector_ID[rows] @ vector_ID[rows].T, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_without_a_catalog_items_of_the_same_people_resemble_each_other(world: MakeWorld) -> None:
    lines = [(f"u{user}", item) for user in range(200) for item in (("a", "b") if user % 2 else ("c",))]
    vector_ID = item_vectors(world(lines).train, {})
    assert vector_ID[0] @ vector_ID[1] == pytest.approx(1.0)
    assert abs(vector_ID[0] @ vector_ID[2]) < 0.4


def test_a_model_beside_itself_differs_by_nothing() -> None:
    one = Measured({"ndcg@2": np.array([0.1, 0.9])}, {})
    assert differences(one, one)["ndcg@2"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_one_person_has_no_interval_of_differences() -> None:
    one = Measured({"ndcg@2": np.array([0.5])}, {})
    assert differences(one, Measured({"ndcg@2": np.array([0.25])}, {}))["ndcg@2"]["low"] is None


def test_intervals_hold_the_mean() -> None:
    values = {"ndcg@2": np.random.default_rng(0).random(300)}
    found = intervals(values, seed=1)["ndcg@2"]
    assert found["low"] < values["ndcg@2"].mean() < found["high"]
    assert found == intervals(values, seed=1)["ndcg@2"]
