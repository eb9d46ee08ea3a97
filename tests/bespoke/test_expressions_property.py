"""Filters against a plain reading item by item, on random items and random filters."""

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bespoke.catalog import Item, ItemTable
from bespoke.events import ItemId
from bespoke.expressions import ExpressionError, Value, parse_expression
from bespoke.expressions.nodes import ATTRIBUTES, And, Comparison, Kind, Node, Not, Or, Parameter

NAMES = ("a", "b", "O'Brien", 'say "x" \\', "é ß")
NUMBERS = (0.0, 1.0, 2.5, -3.0, 1e-7, 1e16)
VALUES: Mapping[str, Value] = {"name": "a", "names": ["a", "O'Brien"], "number": 1, "numbers": (1, 2.5), "yes": True}

items = st.lists(
    st.builds(
        Item,
        st.sampled_from(NAMES).map(ItemId),
        category=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
        brand=st.none() | st.sampled_from(NAMES),
        price=st.none() | st.sampled_from(NUMBERS),
        available=st.booleans(),
        rebuy_after_days=st.none() | st.sampled_from(NUMBERS),
    ),
    max_size=8,
    unique_by=lambda item: item.item_id,
)
OPERANDS: Mapping[Kind, tuple[st.SearchStrategy[Any], str]] = {
    Kind.TEXT: (st.sampled_from((*NAMES, "unknown")), "name"),
    Kind.NUMBER: (st.sampled_from(NUMBERS), "number"),
    Kind.TRUTH: (st.booleans(), "yes"),
}


@st.composite
def comparisons(draw: st.DrawFn) -> Comparison:
    attribute = draw(st.sampled_from(sorted(ATTRIBUTES)))
    kind = ATTRIBUTES[attribute]
    literals, parameter = OPERANDS[kind]
    operator = draw(st.sampled_from(kind.operators))
    many = operator in ("in", "not in")
    names = st.sampled_from([parameter, parameter + "s"]) if many else st.just(parameter)
    operand = literals | names.map(Parameter)
    return Comparison(attribute, operator, tuple(draw(st.lists(operand, min_size=1, max_size=4 if many else 1))))


def joined(join: Callable[[tuple[Node, ...]], Node], kind: type[Node], parts: st.SearchStrategy[Node]) -> Any:
    # The grammar writes (a and b) and c as a and b and c.
    return st.lists(parts.filter(lambda part: not isinstance(part, kind)), min_size=2, max_size=3).map(
        lambda each: join(tuple(each))
    )


nodes: st.SearchStrategy[Node] = st.recursive(
    comparisons(),
    lambda inner: joined(And, And, inner) | joined(Or, Or, inner) | inner.map(Not),
    max_leaves=8,
)

COMPARE: Mapping[str, Callable[[Any, list[Any]], bool]] = {
    "==": lambda value, wanted: value == wanted[0],
    "!=": lambda value, wanted: value != wanted[0],
    "<": lambda value, wanted: value < wanted[0],
    "<=": lambda value, wanted: value <= wanted[0],
    ">": lambda value, wanted: value > wanted[0],
    ">=": lambda value, wanted: value >= wanted[0],
    "in": lambda value, wanted: value in wanted,
    "not in": lambda value, wanted: value not in wanted,
}


def holds(node: Node, item: Item) -> bool:
    if isinstance(node, And):
        return all(holds(part, item) for part in node.parts)
    if isinstance(node, Or):
        return any(holds(part, item) for part in node.parts)
    if isinstance(node, Not):
        return not holds(node.part, item)
    wanted: list[Any] = []
    for operand in node.operands:
        value = VALUES[operand.name] if isinstance(operand, Parameter) else operand
        wanted += value if isinstance(value, list | tuple) else [value]
    if node.attribute == "category":
        every = node.operator in ("!=", "not in")
        checks = [COMPARE[node.operator](level, wanted) for level in item.category]
        return bool(checks) and (all(checks) if every else any(checks))
    value = getattr(item, node.attribute)
    return value is not None and COMPARE[node.operator](value, wanted)


@settings(max_examples=200, deadline=None)
@given(items, nodes)
def test_a_mask_agrees_with_every_item_alone(each: list[Item], node: Node) -> None:
    mask_T = parse_expression(str(node)).mask(ItemTable.of(each), VALUES)
    assert mask_T.tolist() == [holds(node, item) for item in each]


@given(nodes)
def test_what_is_written_out_reads_as_the_same(node: Node) -> None:
    expression = parse_expression(str(node))
    assert expression.node == node
    assert parse_expression(str(expression)).node == node


WORDS = (
    "price",
    "brand",
    "available",
    "not",
    "in",
    "and",
    "or",
    "(",
    ")",
    "==",
    "<",
    "'a'",
    "5",
    "$p",
    "true",
    ",",
    "=",
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@example("(" * 2000)
@example("not " * 500)
@example("price < " + "9" * 1900)
@example("\ud800")
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        parsed = parse_expression(text)
    except ExpressionError as error:
        assert 1 <= error.position <= len(text) + 1
    else:
        assert parse_expression(str(parsed)).node == parsed.node
