"""Nodes: what an expression consists of, as plain values that can be written out again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
Value: TypeAlias = Scalar | list[Scalar] | tuple[Scalar, ...]
"""What a parameter may stand for; a list only inside ``in (...)``."""

EQUALITY = ("==", "!=")
MEMBERSHIP = ("in", "not in")
ORDER = ("<", "<=", ">", ">=")


class Kind(StrEnum):
    """What the values of an attribute are."""

    TEXT = "a text"
    NUMBER = "a number"
    TRUTH = "true or false"

    @property
    def operators(self) -> tuple[str, ...]:
        """The comparisons that make sense of such values."""
        return OPERATORS[self]

    def admits(self, value: object) -> bool:
        """Return whether ``value`` is of this kind."""
        if self is Kind.TRUTH or isinstance(value, bool):
            return self is Kind.TRUTH and isinstance(value, bool)
        return isinstance(value, str) if self is Kind.TEXT else isinstance(value, int | float)


OPERATORS: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.TEXT: (*EQUALITY, *MEMBERSHIP),
        Kind.NUMBER: (*EQUALITY, *ORDER, *MEMBERSHIP),
        Kind.TRUTH: EQUALITY,
    }
)
ATTRIBUTES: Mapping[str, Kind] = MappingProxyType(
    {
        "item_id": Kind.TEXT,
        "category": Kind.TEXT,
        "brand": Kind.TEXT,
        "price": Kind.NUMBER,
        "available": Kind.TRUTH,
        "rebuy_after_days": Kind.NUMBER,
    }
)
"""What an expression may ask of an item."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that comes with each evaluation."""

    name: str
    position: int = field(default=1, compare=False)
    """Where it stands in the text, from 1."""

    def __str__(self) -> str:
        return f"${self.name}"


Operand: TypeAlias = str | float | bool | Parameter


@dataclass(frozen=True, slots=True)
class Comparison:
    """An attribute against one value, or of ``in`` and ``not in`` against several."""

    attribute: str
    operator: str
    operands: tuple[Operand, ...]

    def __str__(self) -> str:
        written = ", ".join(map(_written, self.operands))
        return f"{self.attribute} {self.operator} {f'({written})' if self.operator in MEMBERSHIP else written}"


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds."""

    parts: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Node"

    @property
    def parts(self) -> "tuple[Node, ...]":
        """The one part."""
        return (self.part,)

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, And | Or) else f"not {self.part}"


Node: TypeAlias = Comparison | And | Or | Not


def comparisons(node: Node) -> Iterator[Comparison]:
    """Yield the comparisons that ``node`` is made of, from left to right."""
    if isinstance(node, Comparison):
        yield node
    else:
        for part in node.parts:
            yield from comparisons(part)


def _written(operand: Operand) -> str:
    if isinstance(operand, bool):
        return "true" if operand else "false"
    if isinstance(operand, str):
        return _quoted(operand)
    if isinstance(operand, Parameter):
        return str(operand)
    return str(int(operand)) if operand.is_integer() and abs(operand) < 1e15 else repr(operand)


def _quoted(text: str) -> str:
    quote = '"' if "'" in text and '"' not in text else "'"
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote
