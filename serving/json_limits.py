"""How deep and how large a JSON body may be, told from its bytes before anything is made of them."""

import re

from serving.errors import RequestError

MAX_DEPTH = 32
MAX_VALUES = 100_000
# Ends at the body's end where nothing closes it, and never goes back: linear in the body, whatever it holds.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")


def check_json(body: bytes, *, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES) -> None:
    """Check a body that should be JSON; what is none passes, for its parser to refuse.

    Args:
        body: as it stands.
        max_depth: of arrays and objects in one another.
        max_values: members of all arrays and objects together, about.

    Raises:
        RequestError: it is deeper, or has more values.
    """
    # Most bodies have fewer brackets and commas than they may, strings and all: nothing more is looked at.
    deep = body.count(b"[") + body.count(b"{") > max_depth
    if not deep and body.count(b",") < max_values:
        return
    plain = _STRING.sub(b"", body)
    if plain.count(b",") >= max_values:
        message = f"the body holds more than {max_values} values; send several smaller ones"
        raise RequestError(413, "too_many_values", message)
    if deep and depth(plain, enough=max_depth + 1) > max_depth:
        raise RequestError(400, "too_deep", f"the body nests deeper than {max_depth} levels; make it flatter")


def depth(plain: bytes, *, enough: int = MAX_DEPTH) -> int:
    """Return how deep the brackets of ``plain``, which holds no strings, stand in one another, or ``enough``.

    >>> depth(b"[[],{:[]}]"), depth(b"1"), depth(b"[[["), depth(b"[" * 99 + b"]" * 99, enough=5)
    (3, 0, 3, 5)
    """
    brackets, levels = plain.translate(_ALIKE, _NOT_BRACKETS), 0
    while brackets and levels < enough:
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            # Never closed, or never opened.
            return min(enough, levels + inner.count(b"["))
        brackets, levels = inner, levels + 1
    return levels
