"""One item, and a catalog of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bespoke.events import ItemId


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the catalog."""

    item_id: ItemId
    name: str | None = None
    category: tuple[str, ...] = ()
    """From the broadest to the narrowest, such as ``("GROCERY", "FRZN ICE")``."""
    brand: str | None = None
    price: float | None = None
    available: bool = True
    text: str | None = None
    """Whatever else describes it in words."""
    rebuy_after_days: float | None = None
    """Not recommended again to whoever bought it within so many days; None: at once."""


Catalog = Mapping[ItemId, Item]
"""Items by id."""

EMPTY_CATALOG: Catalog = MappingProxyType({})
