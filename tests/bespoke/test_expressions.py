"""Which items a filter lets through, and what is said where a filter is wrong."""

import re

import pytest

from bespoke.catalog import EMPTY_TABLE, Item, ItemTable
from bespoke.errors import ConfigError
from bespoke.events import ItemId
from bespoke.expressions import ExpressionError, Value, parse_expression

TABLE = ItemTable.of(
    [
        Item(ItemId("milk"), category=("Food", "Dairy"), brand="Own", price=1.0),
        Item(ItemId("wine"), category=("Drinks", "Wine"), brand="Chateau", price=12.5, rebuy_after_days=30.0),
        Item(ItemId("soap"), category=("Home",), price=3.0, available=False),
        Item(ItemId("bare")),
    ]
)

PASSES = {
    "item_id == 'milk'": ["milk"],
    "item_id != 'milk'": ["wine", "soap", "bare"],
    "item_id in ('bare', 'none', 'milk')": ["milk", "bare"],
    # any level of the category counts, and capitals do
    "category == 'Food'": ["milk"],
    "category == 'Dairy'": ["milk"],
    "category == 'dairy'": [],
    "category in ('Dairy', 'Home')": ["milk", "soap"],
    "category != 'Food'": ["wine", "soap"],
    "category not in ('Dairy', 'Wine')": ["soap"],
    "brand == 'Own'": ["milk"],
    "brand != 'Own'": ["wine"],
    # what the catalog does not know equals nothing
    "brand == 'Nobody'": [],
    "brand != 'Nobody'": ["milk", "wine"],
    "price < 3": ["milk"],
    "price <= 3": ["milk", "soap"],
    "price > 3": ["wine"],
    "price >= 3.0": ["wine", "soap"],
    "price == 12.5": ["wine"],
    "price != 12.5": ["milk", "soap"],
    "price in (1, 3)": ["milk", "soap"],
    "price > -1e2": ["milk", "wine", "soap"],
    "available == true": ["milk", "wine", "bare"],
    "available != true": ["soap"],
    "rebuy_after_days > 7": ["wine"],
    # a missing value passes no comparison, so `not` of one lets it through
    "not price < 3": ["wine", "soap", "bare"],
    "not (brand == 'Own' or price > 5)": ["soap", "bare"],
    # and binds before or, whatever the capitals
    "price < 3 or price > 10 and brand == 'Own'": ["milk"],
    "(price < 3 or price > 10) AND NOT brand == 'Own'": ["wine"],
    'brand == "Own"': ["milk"],
}


def passing(text: str, **values: Value) -> list[str]:
    mask_T = parse_expression(text).mask(TABLE, values)
    return [id for id, passes in zip(TABLE.items.ids, mask_T, strict=True) if passes]


@pytest.mark.parametrize(("text", "items"), PASSES.items())
def test_a_filter_lets_these_items_through(text: str, items: list[str]) -> None:
    assert sorted(passing(text)) == sorted(items)


def test_parameters_come_with_the_evaluation() -> None:
    assert passing("category == $c and price < $most", c="Food", most=5, other=1) == ["milk"]
    assert passing("brand in ('Own', $b)", b="Chateau") == ["milk", "wine"]
    assert parse_expression("category == $c and price < $most").parameters == {"c", "most"}


def test_a_parameter_of_in_may_be_a_list() -> None:
    assert passing("item_id in $ids", ids=["milk", "bare"]) == ["milk", "bare"]
    assert passing("item_id not in ($ids, 'soap')", ids=("milk",)) == ["wine", "bare"]
    assert passing("item_id in $ids", ids=[]) == []


def test_a_quote_inside_a_text_has_a_backslash_before_it() -> None:
    table = ItemTable.of([Item(ItemId("a"), brand="O'Brien"), Item(ItemId("b"), brand='5" \\ x')])
    assert parse_expression(r"brand == 'O\'Brien'").mask(table).tolist() == [True, False]
    assert parse_expression('brand == "O\'Brien"').mask(table).tolist() == [True, False]
    assert parse_expression(r"""brand == '5" \\ x'""").mask(table).tolist() == [False, True]


def test_an_empty_catalog_has_an_empty_mask() -> None:
    assert parse_expression("category == 'x' or price < 1 or brand in ('a', 'b')").mask(EMPTY_TABLE).tolist() == []


def test_the_mask_is_the_callers_own() -> None:
    parse_expression("available == true").mask(TABLE)[:] = False
    assert TABLE.available_T.tolist() == [True, True, False, True]


def test_equal_meanings_are_written_out_alike() -> None:
    assert {str(parse_expression(text)) for text in ("price<5", "( price < 5.0 )", "((price\n<5e0))")} == {"price < 5"}
    assert str(parse_expression("(price < 5 and (price > 1)) and available == TRUE")) == (
        "price < 5 and price > 1 and available == true"
    )


REFUSED = {
    "category = 'x'": "got '=' at character 10, expected one of ==, !=, in, not in",
    "price = 5": "got '=' at character 7, expected one of ==, !=, <, <=, >, >=, in, not in",
    "category < 'x'": "got '<' at character 10, expected one of ==, !=, in, not in: category is a text",
    "categry == 'x'": "got 'categry' at character 1, expected 'category'; attributes are item_id, category, brand",
    "colour == 'x'": "got 'colour' at character 1, expected not, ( or an attribute: item_id, category",
    "": "got the end at character 1, expected not, ( or an attribute",
    "price <": "got the end at character 8, expected a number or a $parameter",
    "price < '5'": "got '5' at character 9, expected a number or a $parameter: price is a number",
    "brand == 5": "got '5' at character 10, expected a text in quotes or a $parameter: brand is a text",
    "brand == Own": "got 'Own' at character 10, expected a text in quotes",
    "available == 'yes'": "got 'yes' at character 14, expected true or false or a $parameter",
    "available in (true)": "got 'in' at character 11, expected one of ==, !=",
    "available not in (true)": "got 'not' at character 11, expected one of ==, !=",
    "(price < 3": "got the end at character 11, expected and, or, or the ) of character 1",
    "price < 3)": "got ')' at character 10, expected and, or, or the end",
    "price < 3 && price > 1": "got '&&' at character 11, expected and, or, or the end",
    "brand == 'x": "expected a text with a closing quote",
    "brand in 'x'": "got 'x' at character 10, expected a list in parentheses such as ('a', 'b'), or a $parameter",
    "brand in ()": "got ')' at character 11, expected a text in quotes",
    "brand in ('a' 'b')": "got 'b' at character 15, expected a comma or )",
    "price < 1e999": "got '1e999' at character 9, expected a number that is not so large",
    "__import__('os')": "got '__import__' at character 1, expected not, ( or an attribute",
    "price < 5\u00a0": "got '\\xa0' at character 10, expected and, or, or the end",
    "(" * 21 + "price < 5" + ")" * 21: "nested at most 20 deep",
    "not " * 21 + "price < 5": "nested at most 20 deep",
    "price < 5" + " " * 1992: "got 2001 characters at character 2001, expected at most 2000 characters",
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items())
def test_what_is_wrong_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(said)) as refused:
        parse_expression(text)
    assert str(refused.value).startswith("expression ")
    assert isinstance(refused.value, ConfigError)


def test_an_error_carries_its_parts() -> None:
    with pytest.raises(ExpressionError) as refused:
        parse_expression("category = 'x'")
    error = refused.value
    assert (error.text, error.position, error.found) == ("category = 'x'", 10, "'='")
    assert error.expected == "one of ==, !=, in, not in"


def test_the_deepest_and_the_longest_that_are_allowed_pass() -> None:
    assert str(parse_expression("(" * 20 + "price < 5" + ")" * 20)) == "price < 5"
    assert len(parse_expression(f"price in ({','.join('1' * 990)})").mask(TABLE)) == 4


BAD_VALUES: dict[str, tuple[dict[str, Value], str]] = {
    "brand == $b": ({"c": "x"}, "got no value for $b at character 10, expected one; values were given for: $c"),
    "brand in $b": ({"b": ["Own", 3]}, "got 3 for $b at character 10, expected a text, as brand is"),
    "brand != $b": ({"b": ["Own"]}, "got ['Own'] for $b at character 10, expected a text, as brand is"),
    "price < $b": ({"b": "3"}, "got '3' for $b at character 9, expected a number, as price is"),
    "price <= $b": ({"b": True}, "got True for $b at character 10, expected a number, as price is"),
    "price > $b": ({"b": float("nan")}, "got nan for $b at character 9, expected a number"),
    "price >= $b": ({"b": 10**400}, "expected a number, as price is"),
    "available == $b": ({"b": 1}, "got 1 for $b at character 14, expected true or false, as available is"),
    "item_id in $b": ({"b": ["x"] * 1001}, "got 1001 values of $b at character 12, expected at most 1000"),
}


@pytest.mark.parametrize(("text", "given"), BAD_VALUES.items())
def test_a_parameter_without_a_fitting_value_is_named(text: str, given: tuple[dict[str, Value], str]) -> None:
    values, said = given
    with pytest.raises(ExpressionError, match=re.escape(said)):
        parse_expression(text).mask(TABLE, values)
