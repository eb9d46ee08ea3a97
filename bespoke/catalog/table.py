"""Items as columns: what filters, rules and caps look at for all items at once.

Shapes: T items of the table, L levels of its deepest category path, E entries of all paths in a row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog.item import Item
from bespoke.events import ItemId
from bespoke.vocabulary import RowArray, Vocabulary

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("name", pa.string()),
        ("category", pa.list_(pa.string())),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("available", pa.bool_()),
        ("text", pa.string()),
        ("rebuy_after_days", pa.float64()),
    ]
)
"""The fields of an Item, in their order."""
NONE = -1
"""The code of what an item does not have."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """T items as columns; an item's row is its row in :attr:`items`. It never changes, so threads may share it."""

    items: Vocabulary[ItemId]
    category_TL: RowArray
    """Codes of :attr:`categories` by level, the broadest first; -1 below an item's last level. L is at least 1."""
    categories: Vocabulary[str]
    """The names of all levels."""
    narrowest_T: RowArray
    """The code of each item's last level, -1 where it has no category."""
    brand_T: RowArray
    """Codes of :attr:`brands`, -1 for none."""
    brands: Vocabulary[str]
    price_T: npt.NDArray[np.float64]
    """NaN for none."""
    available_T: npt.NDArray[np.bool_]
    rebuy_after_days_T: npt.NDArray[np.float64]
    """NaN for none."""
    arrow: pa.Table = field(repr=False)
    """The same as an Arrow table of :data:`ITEM_SCHEMA`, which also holds names and texts."""

    @classmethod
    def of(cls, items: Iterable[Item]) -> Self:
        """Return these items as a table, in their order.

        >>> ItemTable.of([Item(ItemId("a"), price=2.5), Item(ItemId("b"))]).price_T.tolist()
        [2.5, nan]

        Raises:
            ValueError: an item comes twice.
        """
        return cls.from_arrow(to_arrow(items))

    @classmethod
    def from_arrow(cls, table: pa.Table, *, items: Vocabulary[ItemId] | None = None) -> Self:
        """Return a table of schema :data:`ITEM_SCHEMA` as items.

        Args:
            table: the items.
            items: their ids by row, where they were numbered before.

        Raises:
            ValueError: the schema is another one, or an id is missing or comes twice.
        """
        if not table.schema.equals(ITEM_SCHEMA):
            raise ValueError(f"a table of items has the columns {ITEM_SCHEMA.names}, got {table.schema.names}")
        table = table.combine_chunks()
        category_TL, narrowest_T, categories = _levels(table["category"])
        brand_T, brands = _coded(table["brand"])
        return cls(
            items=Vocabulary.from_arrow(table["item_id"]) if items is None else items,
            category_TL=category_TL,
            categories=categories,
            narrowest_T=narrowest_T,
            brand_T=brand_T,
            brands=brands,
            price_T=_numbers(table["price"]),
            available_T=pc.fill_null(table["available"], True).to_numpy(),
            rebuy_after_days_T=_numbers(table["rebuy_after_days"]),
            arrow=table,
        )

    def __len__(self) -> int:
        return len(self.items)

    def name(self, row: int) -> str | None:
        """Return the name of the item in ``row``."""
        name: str | None = self.arrow["name"][row].as_py()
        return name

    def item(self, row: int) -> Item:
        """Return the item in ``row``."""
        values: dict[str, Any] = {name: self.arrow[name][row].as_py() for name in ITEM_SCHEMA.names}
        values["available"] = bool(self.available_T[row])
        return Item(**values | {"category": tuple(values["category"] or ())})

    def merged(self, other: "ItemTable") -> "ItemTable":
        """Return this table with the items that only ``other`` has after its own."""
        if not len(other):
            return self
        if not len(self):
            return other
        if self.items == other.items:
            return self
        new_O = self.items.rows_of(other.items) < 0
        if not new_O.any():
            return self
        more = other.arrow.filter(pa.array(new_O))
        new = tuple(compress(other.items.ids, new_O.tolist()))
        return _from_parts([self.arrow, more], self.items.extended(new))

    def changed(self, items: Sequence[Item]) -> "ItemTable":
        """Return this table with ``items`` in the place of those of the same id, new ones at its end.

        Of several with one id, the last counts.
        """
        latest = {item.item_id: item for item in items}
        if not latest:
            return self
        vocabulary = self.items.extended(tuple(latest))
        row_of_T = np.arange(len(vocabulary))
        row_of_T[vocabulary.rows(latest)] = len(self) + np.arange(len(latest))
        return _from_parts([self.arrow, to_arrow(latest.values())], vocabulary, row_of_T)


def to_arrow(items: Iterable[Item]) -> pa.Table:
    """Return ``items`` as a table of schema :data:`ITEM_SCHEMA`."""
    items = list(items)
    columns = {name: [getattr(item, name) for item in items] for name in ITEM_SCHEMA.names}
    return pa.table(columns, schema=ITEM_SCHEMA)


def _from_parts(
    parts: Sequence[pa.Table], items: Vocabulary[ItemId], row_T: npt.NDArray[np.int64] | None = None
) -> ItemTable:
    table = pa.concat_tables(parts)
    return ItemTable.from_arrow(table if row_T is None else table.take(pa.array(row_T)), items=items)


def _levels(column: pa.ChunkedArray) -> tuple[RowArray, RowArray, Vocabulary[str]]:
    """Return the codes by level [T, L], that of the last level [T], and the names."""
    length_T = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    code_E, names = _coded(pc.list_flatten(column))
    item_E = np.repeat(np.arange(len(length_T)), length_T)
    end_T = np.cumsum(length_T)
    level_E = np.arange(len(code_E)) - (end_T - length_T)[item_E]
    code_TL = np.full((len(length_T), max(int(length_T.max(initial=0)), 1)), NONE, dtype=np.int32)
    code_TL[item_E, level_E] = code_E
    narrowest_T = code_TL[np.arange(len(length_T)), np.maximum(length_T - 1, 0)]
    return code_TL, narrowest_T, names


def _coded(column: pa.ChunkedArray) -> tuple[RowArray, Vocabulary[str]]:
    """Return the code of each string, -1 for none, and the strings by code."""
    encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = encoded.dictionary_encode()
    codes: RowArray = pc.fill_null(encoded.indices, NONE).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    return codes, Vocabulary.from_arrow(encoded.dictionary)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    numbers: npt.NDArray[np.float64] = pc.fill_null(column, float("nan")).to_numpy()
    return numbers


EMPTY_TABLE = ItemTable.of(())
