"""Expressions: filters over items such as ``category == $c and price < 5``; a closed grammar, nothing runs as code."""

from bespoke.expressions.expression import NO_VALUES, Expression, parse_expression
from bespoke.expressions.nodes import ATTRIBUTES, Scalar, Value
from bespoke.expressions.tokens import ExpressionError

__all__ = ["ATTRIBUTES", "NO_VALUES", "Expression", "ExpressionError", "Scalar", "Value", "parse_expression"]
