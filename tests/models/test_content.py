"""What the catalog says of items that nobody has touched."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bespoke.catalog import Item
from bespoke.errors import BundleError
from bespoke.events import ItemId
from bespoke.models.base import Basis, Interactions
from bespoke.models.content import Content, ContentConfig, days_on_sale
from bespoke.models.content_terms import expected, term_vectors
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.tensors import map_arrays, write_arrays

WEIGHTS = {"category": 1.0, "word": 1.0, "brand": 1.0, "price": 1.0}
LINES = [(f"u{n}", item) for n in range(6) for item in ("tea1", "tea2", "ink1")] + [("u9", "bare1")]


def catalog(*ids: str) -> dict[ItemId, Item]:
    """Describe items named such as ``tea3``: of category TEA, or of INK."""
    return {ItemId(id): Item(ItemId(id), name=id[:-1], category=("SHOP", id[:-1].upper())) for id in ids}


SHOP = catalog("tea1", "tea2", "tea3", "ink1", "ink2", "pen1")


def ranked(model: Content, history: History) -> list[str]:
    return [model.vocabulary.ids[row] for row in top_k(model.scores(history), k=10)]


def value(model: Content, item: str) -> float:
    return float(model.demand_I[model.vocabulary.row(ItemId(item))])


@pytest.fixture
def model(learn_from: Callable[..., Interactions], at_ms: int) -> Content:
    return Content.fit(learn_from(LINES), at_ms=at_ms, catalog=SHOP)


def test_it_knows_the_items_of_the_catalog_and_those_of_the_interactions(model: Content) -> None:
    assert model.vocabulary.ids == ("bare1", "ink1", "ink2", "pen1", "tea1", "tea2", "tea3")


def test_untouched_items_like_the_persons_own_come_before_others(
    model: Content, history_of: Callable[..., History]
) -> None:
    tea, ink = ranked(model, history_of("tea1")), ranked(model, history_of("ink1"))
    assert tea.index("tea3") < tea.index("ink2") and ink.index("ink2") < ink.index("tea3")


def test_untouched_items_inherit_the_demand_of_items_like_them(
    learn_from: Callable[..., Interactions], at_ms: int
) -> None:
    lines = [(f"u{n}", f"tea{1 + n % 2}") for n in range(40)] + [("u1", "ink1"), ("u2", "ink3")]
    shop = catalog("tea1", "tea2", "tea3", "ink1", "ink2", "ink3")
    model = Content.fit(learn_from(lines), at_ms=at_ms, catalog=shop)
    assert value(model, "tea3") > 1.5 * value(model, "ink2")


def test_the_longer_an_item_is_on_sale_the_less_its_likes_matter(
    learn_from: Callable[..., Interactions], at_ms: int
) -> None:
    lines = [(f"u{n}", "tea1") for n in range(40)] + [("u1", "tea2"), ("u1", "ink1")]
    shares = []
    for age_days in (1.0, 10.0):
        model = Content.fit(learn_from(lines, age_days=age_days), at_ms=at_ms, catalog=SHOP)
        shares.append(value(model, "tea2") / value(model, "ink1"))
    assert shares[0] > shares[1] > 1


def test_equal_sales_in_fewer_days_are_greater_demand(learn_from: Callable[..., Interactions], at_ms: int) -> None:
    old, new = (learn_from([("u1", "a")], age_days=age_days) for age_days in (20.0, 2.0))
    days = [days_on_sale(lines, at_ms=at_ms, half_life_days=1e6)[0] for lines in (old, new)]
    assert days == pytest.approx([20.0, 2.0], rel=1e-3)


def test_items_without_a_description_are_ordered_by_popularity(
    learn_from: Callable[..., Interactions], at_ms: int, history_of: Callable[..., History]
) -> None:
    lines = [*LINES, *[(f"u{n}", "bare2") for n in range(4)], *[(f"u{n}", "bare3") for n in range(2)]]
    found = ranked(Content.fit(learn_from(lines), at_ms=at_ms, catalog=SHOP), history_of("tea1"))
    assert [item for item in found if item.startswith("bare")] == ["bare2", "bare3", "bare1"]


def test_without_a_catalog_the_persons_own_items_come_first_then_the_popular_ones(
    learn_from: Callable[..., Interactions], at_ms: int, history_of: Callable[..., History]
) -> None:
    model = Content.fit(learn_from([*LINES, ("u7", "tea1")]), at_ms=at_ms)
    assert ranked(model, history_of("bare1")) == ["bare1", "tea1", "ink1", "tea2"]
    assert model.basis(history_of("bare1")) is Basis.RECENT_ITEMS


def test_the_more_levels_of_a_path_two_items_share_the_more_alike_they_are() -> None:
    paths = [("FOOD", "TEA", "GREEN"), ("FOOD", "TEA", "GREEN"), ("FOOD", "TEA", "BLACK"), ("FOOD", "JAM"), ("PAPER",)]
    vectors = term_vectors([Item(ItemId("x"), category=path) for path in paths], weights=WEIGHTS, limit=64)
    likeness = (vectors @ vectors[[0]].T).toarray()[:, 0]
    assert likeness[0] == pytest.approx(1.0) and (np.diff(likeness[1:]) < 0).all() and likeness[-1] == 0.0


def test_only_the_heaviest_terms_are_kept() -> None:
    items = [Item(ItemId("x"), text="common rare"), Item(ItemId("y"), text="common"), Item(ItemId("z"))]
    vectors = term_vectors(items, weights=WEIGHTS, limit=1)
    assert np.diff(vectors.indptr).tolist() == [1, 1, 0]
    assert (vectors @ vectors.T).toarray()[0, 1] == 0.0


def test_a_field_that_weighs_nothing_changes_nothing() -> None:
    items = [Item(ItemId("x"), name="tea", brand="pole"), Item(ItemId("y"), name="ink", brand="pole")]
    vectors = term_vectors(items, weights={**WEIGHTS, "brand": 0.0}, limit=64)
    assert (vectors @ vectors.T).toarray()[0, 1] == 0.0


def test_what_terms_let_expect_is_the_mean_where_nothing_is_known_of_an_item() -> None:
    items = [Item(ItemId(id), brand=brand) for id, brand in (("a", "x"), ("b", "y"), ("c", "x"), ("d", None))]
    vectors = term_vectors(items, weights=WEIGHTS, limit=64)
    seen = np.array([True, True, False, False])
    got = expected(vectors, np.array([3.0, 1.0], dtype=np.float32), seen_I=seen, strength=1e-6)
    assert got == pytest.approx([3.0, 1.0, 3.0, 2.0], abs=1e-3)


def test_vectors_come_back_from_disk_bit_by_bit(
    model: Content, tmp_path: Path, history_of: Callable[..., History]
) -> None:
    write_arrays(tmp_path / "arrays", model.arrays())
    arrays = map_arrays(tmp_path / "arrays")
    again = Content.from_arrays(arrays, vocabulary=model.vocabulary, users=model.users, config=ContentConfig())
    np.testing.assert_array_equal(again.scores(history_of("tea1")), model.scores(history_of("tea1")))


@pytest.mark.parametrize(("name", "number"), [("term_bits", 1000), ("start_bits", 3), ("terms_bits", 1)])
def test_terms_that_do_not_fit_are_refused(model: Content, name: str, number: int) -> None:
    arrays = model.arrays()
    arrays[name] = np.full_like(arrays[name].view(np.int32), number).view(np.float32)
    with pytest.raises(BundleError, match="do not fit"):
        Content.from_arrays(arrays, vocabulary=model.vocabulary, users=model.users, config=model.config)
