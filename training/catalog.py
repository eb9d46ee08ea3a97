"""The catalog as of a cut: what was known of items then, with the price that they were last seen at."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog import Catalog, Item
from bespoke.events import ItemId
from storage.control import ControlStore
from storage.item_changes import LiveItem, overlaid
from storage.lake import Lake
from storage.settings import Settings
from training.dataset import within


def known_catalog(settings: Settings, table: pa.Table, *, at_ms: int) -> Catalog:
    """Return what an installation knew of items at ``at_ms``: what serving would have known then.

    Raises:
        Unavailable: the control store, which has what was changed live, cannot be reached.
    """
    with ControlStore(settings.control_url) as control:
        live = control.items_before(at_ms)
    return catalog_at(Lake(settings.lake_dir), table, at_ms=at_ms, live=live)


def catalog_at(lake: Lake, table: pa.Table, *, at_ms: int, live: Iterable[LiveItem] = ()) -> Catalog:
    """Return the items that were described or touched before ``at_ms``.

    Names and categories are the latest ones, as they hardly change. Prices do: they come from the lines before the cut
    where those tell any. What was said live before the cut comes over all that.

    Args:
        lake: for the descriptions.
        table: lines with the columns item_id, at_ms and price, in the order of time.
        at_ms: the cut.
        live: what was in force of items that were changed live, as of the cut.
    """
    described = lake.items()
    since = described["event_timestamp"].cast(pa.int64())
    items = dict(
        zip(described["item_id"].to_pylist(), zip(since.to_pylist(), lake.catalog(), strict=True), strict=True)
    )
    past = within(table, since_ms=None, until_ms=at_ms)
    touched, prices = pc.unique(past["item_id"]).to_pylist(), _last_prices(past)
    early = [item_id for item_id, (since_ms, _) in items.items() if since_ms is None or since_ms < at_ms]
    known = {item_id: _as_of(item_id, items.get(item_id), prices, at_ms) for item_id in _distinct(early, touched)}
    return overlaid(known, live)


def _distinct(*parts: Sequence[ItemId]) -> list[ItemId]:
    return sorted(set().union(*parts))


def _as_of(item_id: ItemId, entry: tuple[int | None, Item] | None, prices: dict[ItemId, float], at_ms: int) -> Item:
    if entry is None:
        return Item(item_id, price=prices.get(item_id))
    since_ms, item = entry
    later = since_ms is not None and since_ms >= at_ms
    return replace(item, price=prices.get(item_id, None if later else item.price))


def _last_prices(past: pa.Table) -> dict[ItemId, float]:
    """Return the price of each item's last line that tells one."""
    priced = past.filter(pc.is_valid(past["price"]))
    # Lines are in the order of time, so the last one of an item stays.
    return dict(zip(priced["item_id"].to_pylist(), priced["price"].to_pylist(), strict=True))
