"""What the item tower of two_tower knows of an item besides its id: hashed marks of its catalog entry.

A mark is a category path up to some level, a brand, a price range or a word. Shapes: I items, F buckets of marks.
"""

import math
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

from bespoke.catalog import Catalog, Item
from bespoke.events import ItemId

WORD = re.compile(r"\w+")
WORDS = 64
"""So many words of an item count, from the front."""
PRICE_STEPS = 2.0
"""Price ranges per doubling."""


def content(items: Sequence[ItemId], catalog: Catalog, *, buckets: int) -> csr_array:
    """Return the marks of each item [I, F], every described item's row of length 1.

    Marks share a bucket where their hashes meet; no mark weighs more than another of the same item.
    """
    columns: list[int] = []
    starts = [0]
    for item_id in items:
        item = catalog.get(item_id)
        if item is not None:
            columns.extend(sorted({zlib.crc32(mark.encode()) % buckets for mark in marks(item)}))
        starts.append(len(columns))
    starts_I1 = np.array(starts, dtype=np.int64)
    length_I = np.diff(starts_I1)
    values = np.repeat(1 / np.sqrt(np.maximum(length_I, 1)), length_I).astype(np.float32)
    return csr_array((values, np.array(columns, dtype=np.int64), starts_I1), shape=(len(items), buckets))


def marks(item: Item) -> Iterator[str]:
    """Yield what describes an item, each mark once or more.

    >>> list(marks(Item(ItemId("1"), name="Oat milk", category=("FOOD", "DAIRY"), price=4.0)))
    ['category FOOD', 'category FOOD\\tDAIRY', 'price 4', 'word oat', 'word milk']
    """
    for level in range(1, len(item.category) + 1):
        yield "category " + "\t".join(item.category[:level])
    if item.brand:
        yield f"brand {item.brand.casefold()}"
    if item.price is not None and item.price > 0 and math.isfinite(item.price):
        yield f"price {math.floor(PRICE_STEPS * math.log2(item.price))}"
    text = " ".join(part for part in (item.name, item.brand, item.text) if part)
    for word in WORD.findall(text.casefold())[:WORDS]:
        yield f"word {word}"
