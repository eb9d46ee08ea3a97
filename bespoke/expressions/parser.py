"""The parser: a text to nodes, by recursive descent. What is not in the grammar cannot be written.

expression  = conjunction {"or" conjunction}
conjunction = term {"and" term}
term        = "not" term | "(" expression ")" | comparison
comparison  = attribute ("==" | "!=" | "<" | "<=" | ">" | ">=") value
            | attribute ["not"] "in" ("(" value {"," value} ")" | $parameter)
value       = 'text' | "text" | number | true | false | $parameter
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeVar

from bespoke.errors import shown
from bespoke.expressions import nodes
from bespoke.expressions.nodes import ATTRIBUTES, MEMBERSHIP, And, Comparison, Node, Not, Operand, Or, Parameter
from bespoke.expressions.tokens import ExpressionError, Kind, Token, tokens

MAX_CHARS = 2_000
"""So many hold fewer than 200 comparisons, and a list of fewer than 1,000 values."""
MAX_DEPTH = 20
"""How deep parentheses and ``not`` may be nested."""
_WORDS = ("and", "or", "not", "in", "true", "false")

J = TypeVar("J", And, Or)


def parse(text: str) -> Node:
    """Return the nodes of ``text``.

    Raises:
        ExpressionError: says where it goes wrong, what stands there and what is allowed.
    """
    if not isinstance(text, str):
        raise ExpressionError(shown(text), 1, shown(text), "a text such as category == 'Dairy' and price < 5")
    if len(text) > MAX_CHARS:
        expected = f"at most {MAX_CHARS} characters; give long lists as a parameter: item_id in $items"
        raise ExpressionError(text, MAX_CHARS + 1, f"{len(text)} characters", expected)
    return _Parser(text).whole()


class _Parser:
    """Walks over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tuple(tokens(text))
        self._next = 0

    def whole(self) -> Node:
        """Return what the whole text says."""
        node = self._expression(0)
        if self._token.kind is not Kind.END:
            raise self._unexpected("and, or, or the end")
        return node

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _advance(self) -> Token:
        token = self._token
        self._next += 1
        return token

    def _word(self, token: Token) -> str | None:
        """Return which word of the grammar a token is; their capitals do not count."""
        word = token.text.lower()
        return word if token.kind is Kind.NAME and word in _WORDS else None

    def _took(self, text: str) -> bool:
        """Take the next token where it is this word or sign."""
        token = self._token
        is_it = self._word(token) == text or (token.kind is Kind.SIGN and token.text == text)
        self._next += is_it
        return is_it

    def _unexpected(self, expected: str, token: Token | None = None) -> ExpressionError:
        token = token or self._token
        return ExpressionError(self._text, token.position, str(token), expected)

    def _expression(self, depth: int) -> Node:
        return self._joined(Or, "or", self._conjunction, depth)

    def _conjunction(self, depth: int) -> Node:
        return self._joined(And, "and", self._term, depth)

    def _joined(self, join: type[J], word: str, part: Callable[[int], Node], depth: int) -> Node:
        parts = [part(depth)]
        while self._took(word):
            parts.append(part(depth))
        # What needs no parentheses has none in the nodes either, so that equal meanings are written out alike.
        flat = [inner for one in parts for inner in (one.parts if isinstance(one, join) else (one,))]
        return join(tuple(flat)) if len(flat) > 1 else flat[0]

    def _term(self, depth: int) -> Node:
        opening = self._token
        if depth > MAX_DEPTH:
            raise self._unexpected(f"not and parentheses nested at most {MAX_DEPTH} deep")
        if self._took("not"):
            return Not(self._term(depth + 1))
        if not self._took("("):
            return self._comparison()
        inner = self._expression(depth + 1)
        if not self._took(")"):
            raise self._unexpected(f"and, or, or the ) of character {opening.position}")
        return inner

    def _comparison(self) -> Comparison:
        attribute = self._attribute()
        operator = self._operator(attribute)
        operands = self._list(attribute) if operator in MEMBERSHIP else (self._value(attribute),)
        return Comparison(attribute, operator, operands)

    def _attribute(self) -> str:
        token = self._token
        if token.kind is Kind.NAME and token.text in ATTRIBUTES:
            return self._advance().text
        names = ", ".join(ATTRIBUTES)
        match = get_close_matches(token.text.lower(), ATTRIBUTES, n=1) if token.kind is Kind.NAME else []
        meant = f"{match[0]!r}; attributes are {names}" if match else f"not, ( or an attribute: {names}"
        raise self._unexpected(meant)

    def _operator(self, attribute: str) -> str:
        allowed, token = ATTRIBUTES[attribute].operators, self._token
        if self._took("not"):
            if "not in" in allowed and self._took("in"):
                return "not in"
            raise self._unexpected(f"one of {', '.join(allowed)}", token)
        word = self._word(token) or token.text
        if token.kind in (Kind.SIGN, Kind.NAME) and word in allowed:
            self._advance()
            return word
        known = word in nodes.OPERATORS[nodes.Kind.NUMBER]
        why = f": {attribute} is {ATTRIBUTES[attribute]}" if known else ""
        raise self._unexpected(f"one of {', '.join(allowed)}{why}")

    def _list(self, attribute: str) -> tuple[Operand, ...]:
        if self._token.kind is Kind.PARAMETER:
            return (self._value(attribute),)
        if not self._took("("):
            raise self._unexpected("a list in parentheses such as ('a', 'b'), or a $parameter")
        values = [self._value(attribute)]
        while self._took(","):
            values.append(self._value(attribute))
        if not self._took(")"):
            raise self._unexpected("a comma or )")
        return tuple(values)

    def _value(self, attribute: str) -> Operand:
        token, kind = self._token, ATTRIBUTES[attribute]
        value = self._literal(token)
        if value is None or (not isinstance(value, Parameter) and not kind.admits(value)):
            examples = {nodes.Kind.TEXT: "a text in quotes", nodes.Kind.NUMBER: "a number"}
            raise self._unexpected(f"{examples.get(kind, str(kind))} or a $parameter: {attribute} is {kind}")
        self._advance()
        return value

    def _literal(self, token: Token) -> Operand | None:
        if token.kind is Kind.PARAMETER:
            return Parameter(token.text[1:], token.position)
        if token.kind is Kind.NUMBER:
            number = float(token.text)
            if not math.isfinite(number):
                raise self._unexpected("a number that is not so large")
            return number
        if token.kind is Kind.TEXT:
            return token.text
        return {"true": True, "false": False}.get(self._word(token) or "")
