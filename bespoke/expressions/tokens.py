"""Tokens: the words and signs of an expression, and the error that says where one is wrong."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from bespoke.errors import ConfigError, shown

_TOKEN = re.compile(
    r"""
      (?P<number>    -?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.$]) )
    | (?P<name>      [A-Za-z_]\w* )
    | (?P<parameter> \$[A-Za-z_]\w* )
    | (?P<text>      '(?:[^'\\]|\\['"\\])*' | "(?:[^"\\]|\\['"\\])*" )
    | (?P<sign>      == | != | <= | >= | [<>(),] )
    | (?P<other>     [^\s'"()<>=!,]+ | . )
    """,
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_BLANK = re.compile(r"[ \t\r\n]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_QUOTES = ("'", '"')


class ExpressionError(ConfigError):
    """An expression is wrong, or what it is evaluated with.

    Attributes:
        text: the expression.
        position: the character where it goes wrong, counted from 1.
        found: what stands there.
        expected: what is allowed there.
    """

    def __init__(self, text: str, position: int, found: str, expected: str) -> None:
        self.text = text
        self.position = position
        self.found = found
        self.expected = expected
        where = f"expression {shown(text, limit=200)}"
        super().__init__(f"{where}: got {found} at character {position}, expected {expected}")


class Kind(StrEnum):
    """What a token is."""

    NUMBER = "number"
    NAME = "name"
    PARAMETER = "parameter"
    TEXT = "text"
    SIGN = "sign"
    OTHER = "other"
    """Nothing that the grammar has a use for; the parser says what it expected instead."""
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One word or sign.

    Attributes:
        kind: what it is.
        text: as it was written; of a quoted text what is inside the quotes.
        position: its first character, counted from 1.
    """

    kind: Kind
    text: str
    position: int

    def __str__(self) -> str:
        return "the end" if self.kind is Kind.END else shown(self.text, limit=60)


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of ``text``; the last one is its end.

    Raises:
        ExpressionError: a quote is not closed.

    >>> [token.text for token in tokens("price<=5 and brand=='a b'")]
    ['price', '<=', '5', 'and', 'brand', '==', 'a b', '']
    """
    at = _blank_end(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        # The last alternative takes any character, so there is always a match.
        assert match is not None and match.lastgroup is not None
        yield _token(text, Kind(match.lastgroup), match.group(), at + 1)
        at = _blank_end(text, match.end())
    yield Token(Kind.END, "", len(text) + 1)


def _blank_end(text: str, start: int) -> int:
    match = _BLANK.match(text, start)
    return match.end() if match else start


def _token(text: str, kind: Kind, written: str, position: int) -> Token:
    if kind is Kind.TEXT:
        return Token(kind, _ESCAPED.sub(r"\1", written[1:-1]), position)
    if written in _QUOTES:
        rest = shown(text[position - 1 :], limit=40)
        way_out = r"a text with a closing quote; inside it a quote or a backslash has a backslash before it: \' \" \\"
        raise ExpressionError(text, position, rest, way_out)
    return Token(kind, written, position)
