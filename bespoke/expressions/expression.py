"""Expressions: which items a filter lets through, as one mask over the catalog's columns.

Shapes: T items of the table, L category levels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from bespoke.catalog import ItemTable
from bespoke.errors import shown
from bespoke.expressions.nodes import ATTRIBUTES, MEMBERSHIP, And, Comparison, Node, Not, Parameter, Scalar, Value
from bespoke.expressions.nodes import comparisons as comparisons_of
from bespoke.expressions.parser import parse
from bespoke.expressions.tokens import ExpressionError

BoolArray = npt.NDArray[np.bool_]
NO_VALUES: Mapping[str, Value] = MappingProxyType({})
MAX_VALUES = 1_000
"""How many values a parameter may list."""
_GREATEST = 1e300
"""Numbers beyond are no prices or days; a whole number beyond does not even fit a float."""
_NEGATED = ("!=", "not in")
_COMPARE: Mapping[str, Callable[[npt.NDArray[np.float64], float], BoolArray]] = MappingProxyType(
    {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}
)


@dataclass(frozen=True, slots=True)
class Expression:
    """What is asked of items. ``str()`` gives it in one way of writing, so that equal ones can be recognised.

    Attributes:
        text: as it was written.
        node: what it says.
        attributes: which attributes of items it reads.
        parameters: which values it needs for an evaluation, without the ``$``.
    """

    text: str
    node: Node
    attributes: frozenset[str]
    parameters: frozenset[str]

    def __str__(self) -> str:
        return str(self.node)

    def mask(self, table: ItemTable, values: Mapping[str, Value] = NO_VALUES) -> BoolArray:
        """Return for each item [T] whether it passes; the array is the caller's.

        An item without a price, a brand or a category passes no comparison of it, ``!=`` and ``not in`` included. A
        text that the catalog does not have equals nothing. Of ``category`` every level counts: ``==`` holds where any
        level is the value, ``!=`` where there is a category and none of its levels is.

        Args:
            table: the items.
            values: what the parameters stand for; those that it does not name are left aside.

        Raises:
            ExpressionError: a parameter has no value, or one of another kind than its attribute.
        """
        return _mask(self.node, _Evaluation(self.text, table, values))


def parse_expression(text: str) -> Expression:
    """Return the expression that ``text`` says.

    Raises:
        ExpressionError: says where it goes wrong, what stands there and what is allowed.

    >>> expression = parse_expression("category == $c and not (price>5)")
    >>> str(expression), sorted(expression.attributes), sorted(expression.parameters)
    ('category == $c and not price > 5', ['category', 'price'], ['c'])
    """
    node = parse(text)
    parts = tuple(comparisons_of(node))
    parameters = {operand.name for part in parts for operand in part.operands if isinstance(operand, Parameter)}
    return Expression(text, node, frozenset(part.attribute for part in parts), frozenset(parameters))


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One evaluation: over which items, with which values."""

    text: str
    table: ItemTable
    values: Mapping[str, Value]

    def operands(self, comparison: Comparison) -> list[Scalar]:
        """Return the values that a comparison is made with."""
        found: list[Scalar] = []
        for operand in comparison.operands:
            found += self._bound(operand, comparison) if isinstance(operand, Parameter) else [operand]
        return found

    def _bound(self, parameter: Parameter, comparison: Comparison) -> Sequence[Scalar]:
        if parameter.name not in self.values:
            there = ", ".join(f"${name}" for name in sorted(self.values)) or "none"
            raise self._problem(parameter, f"no value for {parameter}", f"one; values were given for: {there}")
        value, kind = self.values[parameter.name], ATTRIBUTES[comparison.attribute]
        many = isinstance(value, list | tuple) and comparison.operator in MEMBERSHIP
        each: Sequence[Scalar] = value if many else [value]  # type: ignore[assignment, list-item]
        if len(each) > MAX_VALUES:
            raise self._problem(parameter, f"{len(each)} values of {parameter}", f"at most {MAX_VALUES}")
        for one in each:
            if not kind.admits(one) or (isinstance(one, int | float) and not abs(one) <= _GREATEST):
                expected = f"{kind}, as {comparison.attribute} is"
                raise self._problem(parameter, f"{shown(one)} for {parameter}", expected)
        return each

    def _problem(self, parameter: Parameter, found: str, expected: str) -> ExpressionError:
        return ExpressionError(self.text, parameter.position, found, expected)


def _mask(node: Node, evaluation: _Evaluation) -> BoolArray:
    if isinstance(node, Comparison):
        return _compared(node, evaluation)
    if isinstance(node, Not):
        return ~_mask(node.part, evaluation)
    join = np.logical_and if isinstance(node, And) else np.logical_or
    return reduce(lambda left, right: join(left, right, out=left), (_mask(part, evaluation) for part in node.parts))


def _compared(comparison: Comparison, evaluation: _Evaluation) -> BoolArray:
    operands, table = evaluation.operands(comparison), evaluation.table
    equal, known = _COLUMNS[comparison.attribute](table, operands)
    if comparison.operator in _COMPARE:
        column_T = table.price_T if comparison.attribute == "price" else table.rebuy_after_days_T
        return _COMPARE[comparison.operator](column_T, float(operands[0]))
    return known & ~equal if comparison.operator in _NEGATED else equal


def _items(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    equal_T = np.zeros(len(table), dtype=np.bool_)
    row_V = table.items.rows(operands)  # type: ignore[arg-type]
    equal_T[row_V[row_V >= 0]] = True
    return equal_T, np.ones(len(table), dtype=np.bool_)


def _categories(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    wanted_V = table.categories.rows(operands)  # type: ignore[arg-type]
    # Level by level: `any` along so short an axis takes ten times as long.
    levels = [np.ascontiguousarray(table.category_TL[:, level]) for level in range(table.category_TL.shape[1])]
    equal_T = reduce(np.logical_or, (_coded(code_T, wanted_V, len(table.categories)) for code_T in levels))
    return equal_T, reduce(np.logical_or, (code_T >= 0 for code_T in levels))


def _brands(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    equal_T = _coded(table.brand_T, table.brands.rows(operands), len(table.brands))  # type: ignore[arg-type]
    return equal_T, table.brand_T >= 0


def _prices(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    return _numbers(table.price_T, operands)


def _rebuys(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    return _numbers(table.rebuy_after_days_T, operands)


def _available(table: ItemTable, operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    return np.equal(table.available_T, bool(operands[0])), np.ones(len(table), dtype=np.bool_)


def _numbers(column_T: npt.NDArray[np.float64], operands: Sequence[Scalar]) -> tuple[BoolArray, BoolArray]:
    return np.isin(column_T, np.array(operands, dtype=np.float64)), ~np.isnan(column_T)


def _coded(code: npt.NDArray[np.int32], wanted_V: npt.NDArray[np.int32], size: int) -> BoolArray:
    """Return where ``code`` is among those wanted; -1 is nowhere."""
    wanted_V = wanted_V[wanted_V >= 0]
    if len(wanted_V) <= 1:
        return code == wanted_V[0] if len(wanted_V) else np.zeros(code.shape, dtype=np.bool_)
    # One place more than there are codes: -1 reads the last one, which is never wanted.
    is_wanted = np.zeros(size + 1, dtype=np.bool_)
    is_wanted[wanted_V] = True
    return is_wanted[code]


_COLUMNS: Mapping[str, Callable[[ItemTable, Sequence[Scalar]], tuple[BoolArray, BoolArray]]] = MappingProxyType(
    {
        "item_id": _items,
        "category": _categories,
        "brand": _brands,
        "price": _prices,
        "available": _available,
        "rebuy_after_days": _rebuys,
    }
)
"""Of each attribute: where an item has one of the values, and where it has a value at all."""
