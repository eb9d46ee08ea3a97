"""Items of files: what is known of each, for models that learn from content and for the diversity of lists."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog import Catalog, Item
from bespoke.errors import TrainingError
from bespoke.events import ItemId
from training.offline import columns
from training.offline.tables import read_table

ITEM, BRAND, PRICE, CATEGORY, AVAILABLE = "item_id", "brand", "price", "category", "available"
NAMES = ("name", "title")
PATH_MARKS = re.compile(r"\s*[>/|]\s*")
"""What stands between the levels of a category that is written as one text."""


def read_items(path: Path) -> Catalog:
    """Return the items of a file; of several rows about one item the last one counts.

    Columns: item_id; name or title; category, a list or a path such as ``Food > Tea``; brand; price; available. All
    other columns of words go into the item's text.

    Raises:
        TrainingError: the file cannot be read, has no column item_id, or a price is no number.
    """
    table = read_table(path, required={ITEM: columns.ids}, optional={PRICE: columns.weights}, others=True)
    taken = {ITEM, BRAND, PRICE, CATEGORY, AVAILABLE}
    name = next((one for one in NAMES if one in table.column_names), None)
    words = [one for one in table.column_names if one not in taken and one != name and _in_words(table[one])]
    ids = table[ITEM].to_pylist()
    texts = {one: _strings(table, one) for one in (BRAND, *words, *([] if name is None else [name]))}
    categories = _categories(table)
    prices = _prices(table)
    found = {}
    for row, item_id in enumerate(ids):
        if item_id is not None:
            found[item_id] = Item(
                ItemId(item_id),
                None if name is None else texts[name][row],
                categories[row],
                texts[BRAND][row],
                prices[row],
                text=" ".join(text for one in words if (text := texts[one][row])) or None,
            )
    if not found:
        raise TrainingError(f"{path}: no row has an item_id")
    return found


def category_of(value: Any) -> tuple[str, ...]:
    """Return the levels of a category, from the broadest to the narrowest.

    >>> category_of("Food > Tea"), category_of(["Food", "Tea"]), category_of(None)
    (('Food', 'Tea'), ('Food', 'Tea'), ())
    """
    if value is None:
        return ()
    levels: Sequence[Any] = value if isinstance(value, list) else PATH_MARKS.split(str(value))
    return tuple(str(level).strip() for level in levels if level is not None and str(level).strip())


def _categories(table: pa.Table) -> list[tuple[str, ...]]:
    if CATEGORY not in table.column_names:
        return [()] * table.num_rows
    known: dict[Any, tuple[str, ...]] = {}
    values = table[CATEGORY].to_pylist()
    keys = [tuple(value) if isinstance(value, list) else value for value in values]
    for key, value in zip(keys, values, strict=True):
        if key not in known:
            known[key] = category_of(value)
    return [known[key] for key in keys]


def _prices(table: pa.Table) -> list[float | None]:
    if PRICE not in table.column_names:
        return [None] * table.num_rows
    return [None if value is None or np.isnan(value) else float(value) for value in table[PRICE].to_pylist()]


def _in_words(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    try:
        # Delimited text comes as strings throughout; numbers are no words.
        pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return True
    return False


def _strings(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    found: list[str | None] = pc.cast(table[name], pa.string()).to_pylist()
    return found


def content_features(catalog: Mapping[ItemId, Item], items: Sequence[ItemId]) -> list[tuple[str, ...]]:
    """Return what describes each item: every level of its category with those above it, and its brand."""
    found = []
    for item_id in items:
        item = catalog.get(item_id)
        levels = () if item is None else tuple(">".join(item.category[: n + 1]) for n in range(len(item.category)))
        brand = () if item is None or item.brand is None else (f"brand={item.brand}",)
        found.append((*levels, *brand))
    return found
