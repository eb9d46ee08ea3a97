"""Retrieval agrees with scoring everything, for every family."""

from collections.abc import Callable

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.events import ItemId
from bespoke.models.base import Interactions, Model
from bespoke.models.blend import Blend
from bespoke.models.blend_learning import Learned
from bespoke.models.blend_trees import LEAVES, NODES, Trees
from bespoke.models.content import Content, ContentConfig
from bespoke.models.history import History
from bespoke.models.index import BoolArray, Ranking, best_of
from bespoke.models.registry import MODELS
from bespoke.models.retrieval import EMPTY, codes_of, item_vectors, retrieve, similar, with_codes
from bespoke.profiles import Recent

ITEMS, PEOPLE = 300, 60
WITH_VECTORS, WITH_LIKENESS = {"als", "blend", "two_tower"}, {"als", "blend", "two_tower", "covisitation", "content"}
CATALOG = {
    (id := ItemId(f"i{n:03d}")): Item(id, name=f"{'tea' if n % 2 else 'nail'} {n % 7}", category=("S", f"c{n % 2}"))
    for n in range(ITEMS + 4)
} | {ItemId("zz"): Item(ItemId("zz"))}


@pytest.fixture(scope="module")
def shop() -> Interactions:
    """People who take items of one parity, some items far more often than others."""
    random = np.random.default_rng(0)
    lines = [
        (f"u{user:02d}", f"i{2 * int(item) + user % 2:03d}", int(time))
        for user in range(PEOPLE)
        for item, time in zip(
            np.minimum(random.geometric(0.03, 25), ITEMS // 2 - 1),
            random.integers(99 * 86_400_000, size=25),
            strict=True,
        )
    ]
    users, items, times = zip(*lines, strict=True)
    return Interactions.from_columns(users, items, times, np.ones(len(lines)))


@pytest.fixture(scope="module", params=[*MODELS, "blend with trees"])
def model(request: pytest.FixtureRequest, shop: Interactions) -> Model:
    kind = request.param.split()[0]
    fitted = MODELS[kind].fit(shop, at_ms=100 * 86_400_000, catalog=CATALOG)
    if isinstance(fitted, Blend) and request.param != kind:
        fitted = fitted.with_learned(Learned(fitted.learned.weights_GS, split_on_rebuy_and_popularity()))
    return fitted


def split_on_rebuy_and_popularity() -> Trees:
    node_TNF = np.zeros((2, NODES, 5), dtype=np.float32)
    node_TNF[:, :, 2] = node_TNF[:, :, 3] = np.arange(NODES)
    node_TNF[0, 0], node_TNF[1, 0] = (7, 0.3, 1, 2, 0), (0, 0.5, 1, 2, 0)
    node_TNF[0, 1, 4], node_TNF[1, 2, 4] = 0.4, -0.7
    assert LEAVES > 2
    return Trees(node_TNF)


@pytest.fixture
def histories(history_of: Callable[..., History]) -> list[History]:
    known = history_of("i001", "i003", "i001", "i009", user="u01", ages_days=[1, 40, 80, 2])
    return [known, history_of("i002"), history_of(user="u04"), history_of(), history_of("?", user="nobody")]


@pytest.mark.parametrize("k", [1, 20, 150, 1000])
@pytest.mark.parametrize("barred", ["none", "half", "most"])
def test_retrieval_agrees_with_the_best_of_all_scores(
    model: Model, histories: list[History], k: int, barred: str
) -> None:
    rows, random = len(model.vocabulary), np.random.default_rng(k)
    barred_I: BoolArray | None = {"none": None, "half": random.random(rows) < 0.5, "most": np.arange(rows) % 40 > 0}[
        barred
    ]
    exclude = EMPTY if barred == "none" else random.integers(rows, size=9).astype(np.int32)
    for history in histories:
        found = retrieve(model, history, k=k, barred_I=barred_I, exclude=exclude)
        scores_I = model.scores(history)
        expected = best_of(scores_I, k=k, barred_I=barred_I, exclude=exclude)
        assert len(found) == len(expected) and len(set(found.row_K.tolist())) == len(found)
        np.testing.assert_allclose(found.score_K, expected.score_K, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(scores_I[found.row_K], expected.score_K, rtol=1e-4, atol=2e-6)
        assert (np.diff(found.score_K) <= 0).all() and found.row_K.dtype == np.int32


def test_an_item_is_not_like_itself_and_bars_hold(model: Model) -> None:
    row, barred_I = 12, np.arange(len(model.vocabulary)) < 10
    found = similar(model, row, k=30, barred_I=barred_I, exclude=np.array([15], dtype=np.int32))
    assert (model.kind in WITH_LIKENESS) == bool(len(found))
    assert not {row, 15, *range(10)} & set(found.row_K.tolist())
    assert np.isfinite(found.score_K).all() and (np.diff(found.score_K) <= 0).all()


def test_like_items_are_those_that_the_same_people_take(model: Model) -> None:
    if model.kind not in WITH_LIKENESS:
        return
    row = model.vocabulary.row(ItemId("i012"))
    assert row is not None
    best = similar(model, row, k=10)
    even = [int(model.vocabulary.ids[row][1:]) % 2 == 0 for row in best.row_K if model.vocabulary.ids[row] != "zz"]
    assert sum(even) >= 8


def test_vectors_have_length_one_and_say_what_similar_says(model: Model) -> None:
    vectors = item_vectors(model)
    assert (vectors is not None) == (model.kind in WITH_VECTORS) == (codes_of(model) is not None)
    if vectors is None:
        return
    found = similar(model, 5, k=20)
    cosine_K = vectors[found.row_K] @ vectors[np.array([5])][0]
    np.testing.assert_allclose(cosine_K, found.score_K, atol=1e-5)


def test_codes_from_elsewhere_change_nothing(model: Model, histories: list[History]) -> None:
    codes = codes_of(model)
    if codes is None:
        return
    again = with_codes(model, codes.arrays())
    for history in histories:
        one, other = retrieve(model, history, k=30), retrieve(again, history, k=30)
        np.testing.assert_array_equal(one.row_K, other.row_K)
        np.testing.assert_array_equal(one.score_K, other.score_K)


def test_a_ranking_gives_the_best_of_what_may_come() -> None:
    random = np.random.default_rng(0)
    score_I = random.integers(50, size=2_000).astype(np.float32)
    ranking, barred_I = Ranking(score_I), random.random(2_000) < 0.97
    for k, exclude in ((5, EMPTY), (40, np.arange(0, 2_000, 3, dtype=np.int32)), (5_000, EMPTY), (0, EMPTY)):
        for bars in (None, barred_I):
            found = ranking.best(k=k, barred_I=bars, exclude=exclude)
            expected = best_of(score_I, k=k, barred_I=bars, exclude=exclude)
            np.testing.assert_array_equal(found.row_K, expected.row_K)
            np.testing.assert_array_equal(found.score_K, expected.score_K)


def test_content_finds_the_best_whether_likeness_counts_little_or_much(shop: Interactions) -> None:
    for similarity in (0.0, 0.01, 5.0):
        model = Content.fit(shop, config=ContentConfig(similarity=similarity), at_ms=100 * 86_400_000, catalog=CATALOG)
        history = History(None, (Recent(0, ItemId("i290"), "purchase", 1.0),), 86_400_000)
        expected = best_of(model.scores(history), k=9)
        np.testing.assert_allclose(retrieve(model, history, k=9).score_K, expected.score_K, rtol=1e-5)
