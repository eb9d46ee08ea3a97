"""Datasets: the lake's events of a window, through Ray Data, as what models learn from and are measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from bespoke.clock import DAY_MS
from bespoke.errors import TrainingError
from bespoke.events import InteractionType, ItemId, UserId
from bespoke.models.base import History, Interactions, InteractionWeights
from bespoke.profiles import RECENT_LIMIT, Recent
from storage.lake import Lake, interactions_of

READERS = 4
"""How many tasks share the files; more would start processes for longer than they read."""
COLUMNS = ["user_id", "item_id", "interaction", "quantity", "at_ms"]


@dataclass(frozen=True, slots=True)
class Basket:
    """What one person took at one time: what a ranked list is held against."""

    user_id: UserId
    at_ms: int
    items: frozenset[ItemId]


def read_interactions(lake: Lake, *, since_ms: int | None, until_ms: int) -> pa.Table:
    """Return the lines of ``[since_ms, until_ms)`` by event time: columns user_id, item_id, interaction, at_ms.

    Raises:
        TrainingError: the lake holds no event of that window.
    """
    files = lake.files("events")
    if not files:
        raise TrainingError(f"the lake at {lake.root} is empty; bring events in first, such as with `bespoke ingest`")
    # Ray Data's own Parquet reader takes a task per file to look at it; a day's file is too small for that.
    shares = [{"paths": [str(path) for path in files[n::READERS]]} for n in range(min(READERS, len(files)))]

    def read(share: Any) -> pa.Table:
        paths = [Path(path) for path in share["paths"][0]]
        return interactions_of(paths, since_ms=since_ms, until_ms=until_ms).select(COLUMNS)

    dataset = ray.data.from_items(shares, override_num_blocks=len(shares)).map_batches(read, batch_size=1)
    blocks = ray.get(dataset.to_arrow_refs())
    filled = [block for block in blocks if block.num_rows]
    if not filled:
        raise TrainingError("the window holds no interactions; widen it, or choose another cut with --until")
    return pa.concat_tables(filled).sort_by(
        [("at_ms", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")]
    )


def within(table: pa.Table, *, since_ms: int | None, until_ms: int) -> pa.Table:
    """Return the lines of ``[since_ms, until_ms)``."""
    inside = pc.less(table["at_ms"], until_ms)
    if since_ms is not None:
        inside = pc.and_(inside, pc.greater_equal(table["at_ms"], since_ms))
    return table.filter(inside)


def to_interactions(table: pa.Table, *, weights: InteractionWeights) -> Interactions:
    """Return the lines as a model learns from them; types that weigh nothing are left out."""
    weight_N = weights.of(table["interaction"].to_pylist())
    return Interactions.from_columns(table["user_id"], table["item_id"], table["at_ms"].to_numpy(), weight_N)


def histories(table: pa.Table, *, at_ms: int, users: Sequence[UserId] | None = None) -> dict[UserId, History]:
    """Return what a profile would know of each person at ``at_ms``: the newest lines before, oldest first.

    Args:
        table: lines in the order of time, all from before ``at_ms`` or later ones that are ignored.
        at_ms: the time of the requests.
        users: only these people; everybody by default.
    """
    past = within(table, since_ms=None, until_ms=at_ms)
    if users is not None:
        past = past.filter(pc.is_in(past["user_id"], value_set=pa.array(users, past["user_id"].type)))
    grouped: dict[UserId, list[Recent]] = {}
    columns = [past[name].to_pylist() for name in ("user_id", "at_ms", "item_id", "interaction", "quantity")]
    for user_id, *line in zip(*columns, strict=True):
        grouped.setdefault(user_id, []).append(Recent(*line))
    return {user_id: History(user_id, tuple(lines[-RECENT_LIMIT:]), at_ms) for user_id, lines in grouped.items()}


def baskets(table: pa.Table) -> list[Basket]:
    """Return who took which items at which time: purchases, or all interactions where nothing was bought."""
    bought = table.filter(pc.equal(table["interaction"], InteractionType.PURCHASE.value))
    taken = bought if bought.num_rows else table
    grouped = taken.group_by(["user_id", "at_ms"]).aggregate([("item_id", "list")])
    rows = zip(*(grouped[name].to_pylist() for name in ("user_id", "at_ms", "item_id_list")), strict=True)
    found = [Basket(user_id, at_ms, frozenset(items)) for user_id, at_ms, items in rows]
    return sorted(found, key=lambda basket: (basket.at_ms, basket.user_id))


def fingerprint(table: pa.Table) -> str:
    """Return a hash of the lines themselves: equal data gives the equal fingerprint, in whatever files it lies."""
    digest = hashlib.sha256()
    for name in ("user_id", "item_id", "interaction"):
        digest.update("\0".join(table[name].to_pylist()).encode())
    digest.update(np.ascontiguousarray(table["at_ms"].to_numpy()).tobytes())
    return digest.hexdigest()


def days(count: float) -> int:
    """Return ``count`` days in milliseconds."""
    return round(count * DAY_MS)
