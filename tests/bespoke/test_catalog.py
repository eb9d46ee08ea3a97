"""Items as columns."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.catalog import EMPTY_TABLE, ITEM_SCHEMA, Item, ItemTable
from bespoke.events import ItemId

ICE = Item(ItemId("ice"), "Ice", ("GROCERY", "FROZEN", "ICE"), "National", 1.5, True, "cold", 7.0)
TEA = Item(ItemId("tea"), "Tea", ("GROCERY",), "Private", None, False)
BARE = Item(ItemId("bare"))

words = st.sampled_from(["GROCERY", "FROZEN", "ICE", "é"])
items = st.lists(
    st.builds(
        Item,
        item_id=st.sampled_from([ItemId(id) for id in "abcdef"]),
        name=st.none() | words,
        category=st.lists(words, max_size=3).map(tuple),
        brand=st.none() | words,
        price=st.none() | st.floats(0, 10),
        available=st.booleans(),
        text=st.none() | words,
        rebuy_after_days=st.none() | st.floats(0, 10),
    ),
    max_size=6,
    unique_by=lambda item: item.item_id,
)


def all_items(table: ItemTable) -> list[Item]:
    return [table.item(row) for row in range(len(table))]


def test_columns_say_what_items_say() -> None:
    table = ItemTable.of([ICE, TEA, BARE])
    assert table.items.ids == ("ice", "tea", "bare") and len(table) == 3
    assert [table.name(row) for row in range(3)] == ["Ice", "Tea", None]
    np.testing.assert_array_equal(table.price_T, [1.5, np.nan, np.nan])
    np.testing.assert_array_equal(table.rebuy_after_days_T, [7.0, np.nan, np.nan])
    assert table.available_T.tolist() == [True, False, True]
    assert table.brands.ids == ("National", "Private") and table.brand_T.tolist() == [0, 1, -1]


def test_categories_are_codes_by_level_of_one_vocabulary() -> None:
    table = ItemTable.of([ICE, BARE, TEA])
    assert table.categories.ids == ("GROCERY", "FROZEN", "ICE")
    assert table.category_TL.tolist() == [[0, 1, 2], [-1, -1, -1], [0, -1, -1]]
    assert table.narrowest_T.tolist() == [2, -1, 0]


def test_types_are_the_same_whatever_there_is() -> None:
    for table in (EMPTY_TABLE, ItemTable.of([BARE]), ItemTable.of([ICE])):
        assert table.category_TL.shape[0] == len(table) and table.category_TL.shape[1] >= 1
        assert {array.dtype for array in (table.category_TL, table.narrowest_T, table.brand_T)} == {np.dtype(np.int32)}
        assert str(table.price_T.dtype) == "float64" and str(table.available_T.dtype) == "bool"


@given(items)
def test_items_come_back_as_they_were(given_items: list[Item]) -> None:
    assert all_items(ItemTable.of(given_items)) == given_items


@given(items, items)
def test_merging_keeps_the_first_and_appends_what_is_new(own: list[Item], others: list[Item]) -> None:
    ids = {item.item_id for item in own}
    expected = own + [item for item in others if item.item_id not in ids]
    assert all_items(ItemTable.of(own).merged(ItemTable.of(others))) == expected


@given(items, items)
def test_a_change_replaces_in_place_or_appends(own: list[Item], changes: list[Item]) -> None:
    changed = {item.item_id: item for item in [*own, *changes]}
    table = ItemTable.of(own).changed(changes)
    assert all_items(table) == list(changed.values())
    assert table.items.rows(changed).tolist() == list(range(len(changed)))


def test_of_two_changes_of_one_item_the_last_counts() -> None:
    assert all_items(ItemTable.of([TEA]).changed([ICE, BARE, TEA, Item(ICE.item_id)])) == [
        TEA,
        Item(ICE.item_id),
        BARE,
    ]


def test_an_item_comes_once() -> None:
    with pytest.raises(ValueError, match="1 repeated"):
        ItemTable.of([ICE, TEA, ICE])


def test_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="a table of items has the columns"):
        ItemTable.from_arrow(pa.table({"item_id": ["a"]}))


def test_availability_that_nobody_told_is_availability() -> None:
    columns = {name: pa.nulls(1, ITEM_SCHEMA.field(name).type) for name in ITEM_SCHEMA.names}
    table = ItemTable.from_arrow(pa.table(columns | {"item_id": ["a"]}, schema=ITEM_SCHEMA))
    assert all_items(table) == [Item(ItemId("a"))]
