"""The next page: a token that holds what was shown so far, so that no replica has to remember it."""

import binascii
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

import orjson

from bespoke.events import ItemId
from serving.errors import RequestError
from serving.recommendation_forms import MAX_PAGE_CHARS

MAX_SHOWN = 1_000
"""After so many items there is no next page."""
MAX_BYTES = 1_000_000
WINDOW_BITS, MEMORY_LEVEL = 12, 5


def to_page(shown: Iterable[ItemId]) -> str | None:
    """Return the token of what comes after ``shown``; None where that was enough.

    >>> sorted(from_page(to_page([ItemId("a"), ItemId("b")])))
    ['a', 'b']
    """
    items = list(shown)
    # The default window is for 32 KB, and making room for it costs ten times as much as packing a list.
    packer = zlib.compressobj(wbits=WINDOW_BITS, memLevel=MEMORY_LEVEL)
    packed = packer.compress(orjson.dumps(items)) + packer.flush()
    token = urlsafe_b64encode(packed).decode()
    return token if len(items) <= MAX_SHOWN and len(token) <= MAX_PAGE_CHARS else None


def from_page(token: str | None) -> frozenset[ItemId]:
    """Return what a token holds.

    Raises:
        RequestError: it is none.
    """
    if token is None:
        return frozenset()
    try:
        unpack = zlib.decompressobj()
        items = orjson.loads(unpack.decompress(urlsafe_b64decode(token), MAX_BYTES))
    except (ValueError, zlib.error, binascii.Error):
        items = None
    if not isinstance(items, list) or len(items) > MAX_SHOWN or not all(isinstance(item, str) for item in items):
        raise RequestError(400, "invalid_page", "page is the nextPage of an answer, unchanged")
    return frozenset(map(ItemId, items))
