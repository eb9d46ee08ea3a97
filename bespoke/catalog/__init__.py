"""Items: what can be recommended, one by one and as columns."""

from bespoke.catalog.item import EMPTY_CATALOG, Catalog, Item
from bespoke.catalog.table import EMPTY_TABLE, ITEM_SCHEMA, ItemTable

__all__ = ["EMPTY_CATALOG", "EMPTY_TABLE", "ITEM_SCHEMA", "Catalog", "Item", "ItemTable"]
