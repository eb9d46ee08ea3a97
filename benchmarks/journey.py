"""How well models rank the next week's real baskets of The Complete Journey, and by how much they beat the baselines.

At each of several cuts every kind is trained as `bespoke train` does, on the 30 days before; histories are what a
profile would hold at the cut. Every basket of the 7 days after is ranked; items may come again, and NDCG@20 is the mean
over the baskets of all cuts. Differences are paired by basket, their 95 percent intervals take households as clusters;
`_low` is the lower end. `blend_gain_share` is blend over buy_again, less one. All settings are the defaults; they, the
sources of the blend and the window were chosen on weeks that end before September; the weeks reported begin after that.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import Figures, main
from bespoke.catalog import Catalog, Item
from bespoke.clock import DAY_MS, to_ms
from bespoke.events import InteractionType, ItemId
from bespoke.models.registry import MODELS
from bespoke.statistics.paired import Interval, clustered_difference
from runtime.demo.journey import data_folder
from training.dataset import within
from training.evaluate import Measured, held_out_baskets, measure
from training.fit import FitRequest, fit

FIRST_CUT = datetime(2017, 9, 6, tzinfo=UTC)
CUTS = tuple(FIRST_CUT + timedelta(weeks=3 * number) for number in range(6))
WINDOW_DAYS = 30
HELD_OUT = timedelta(days=7)
KINDS = ("popularity", "buy_again", "als", "two_tower", "blend")
AGAINST = (("blend", "buy_again"), ("als", "popularity"), ("two_tower", "popularity"))
METRIC = "ndcg@20"


def run() -> Figures:
    """Train and rank at every cut."""
    table, catalog = lines(), products()
    kinds = [kind for kind in KINDS if kind in MODELS]
    for kind in set(KINDS) - set(kinds):
        print(f"skipped: there is no kind {kind}", flush=True)
    at_cuts = [_at_cut(table, catalog, kinds, cut) for cut in CUTS]
    people = [f"{person}" for one in at_cuts for person in one["popularity"].people]
    values = {kind: np.concatenate([one[kind].values[METRIC] for one in at_cuts]) for kind in kinds}
    figures = {f"{kind}_ndcg_at_20": float(values[kind].mean(dtype=np.float64)) for kind in kinds}
    for kind, baseline in AGAINST:
        if kind in values:
            figures |= _difference(kind, baseline, clustered_difference(values[kind], values[baseline], people))
    gain = figures["blend_ndcg_at_20"] / figures["buy_again_ndcg_at_20"] - 1
    return {**figures, "blend_gain_share": gain, "baskets": len(people), "cuts": len(CUTS)}


def lines() -> pa.Table:
    """Return every line of every basket as training reads it from the lake, in the order of time."""
    found = pq.read_table(
        data_folder() / "transactions.parquet",
        columns=["household_id", "product_id", "quantity", "transaction_timestamp"],
    )
    table = pa.table(
        {
            "user_id": pc.cast(found["household_id"], pa.string()),
            "item_id": pc.cast(found["product_id"], pa.string()),
            "interaction": pa.repeat(InteractionType.PURCHASE.value, found.num_rows),
            "quantity": pc.cast(found["quantity"], pa.float64()),
            "at_ms": pc.cast(pc.cast(found["transaction_timestamp"], pa.timestamp("ms")), pa.int64()),
        }
    )
    return table.sort_by([("at_ms", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])


def products() -> Catalog:
    """Return what the data set says of its products."""
    names = ["product_id", "product_type", "department", "product_category", "brand"]
    found = pq.read_table(data_folder() / "products.parquet", columns=names)
    rows: Iterable[tuple[object, ...]] = zip(*(found[name].to_pylist() for name in names), strict=True)
    return {item.item_id: item for item in (_item(*row) for row in rows)}


def _item(product_id: object, kind: object, department: object, category: object, brand: object) -> Item:
    path = tuple(str(part) for part in (department, category, kind) if part)
    return Item(ItemId(str(product_id)), name=str(kind or ""), category=path, brand=str(brand or ""))


def _at_cut(table: pa.Table, catalog: Catalog, kinds: Iterable[str], cut: datetime) -> Mapping[str, Measured]:
    """Return what each kind comes to on the baskets of the days after the cut."""
    at_ms = to_ms(cut)
    taken, known = held_out_baskets(
        within(table, since_ms=None, until_ms=to_ms(cut + HELD_OUT)), at_ms=at_ms, until=cut + HELD_OUT
    )
    past, measured = within(table, since_ms=None, until_ms=at_ms), {}
    for kind in kinds:
        request = FitRequest(kind, MODELS[kind].Config(), at_ms, WINDOW_DAYS * DAY_MS, catalog=catalog)
        measured[kind] = measure(fit(past, request), taken, known, at_ms=at_ms, lengths=(20,))
        print(f"{cut:%Y-%m-%d} {kind}: {METRIC} {measured[kind].means[METRIC]:.4f}", flush=True)
    return measured


def _difference(one: str, other: str, interval: Interval) -> Figures:
    name = f"{one}_minus_{other}"
    return {name: interval.mean, f"{name}_low": interval.low}


if __name__ == "__main__":
    main("journey", run, runs=1, about=(__doc__ or "").strip())
