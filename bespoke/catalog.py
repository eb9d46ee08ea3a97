"""Items: what can be recommended."""

from dataclasses import dataclass

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
