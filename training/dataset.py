"""Datasets: the lake's events of a window, through Ray Data, as what models learn from and are measured on."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from bespoke.clock import from_ms
from bespoke.errors import TrainingError, Unavailable
from bespoke.events import InteractionType, ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.history import History, InteractionWeights
from bespoke.profiles import Recent, newest_lines
from storage.lake import Lake, interactions_of
from training.line_cache import LineCache

Result = TypeVar("Result")

READ_TRIES = 10
READERS = 4
"""How many tasks share the files; more would start processes for longer than they read."""
COLUMNS = ["user_id", "item_id", "interaction", "quantity", "price", "at_ms"]


@dataclass(frozen=True, slots=True)
class Basket:
    """What one person took at one time: what a ranked list is held against."""

    user_id: UserId
    at_ms: int
    items: frozenset[ItemId]


def read_interactions(lake: Lake, *, since_ms: int | None, until_ms: int, cache: Path | None = None) -> pa.Table:
    """Return the lines of ``[since_ms, until_ms)`` by event time: the columns of :data:`COLUMNS`, in order of time.

    Args:
        lake: to read.
        since_ms: from when on; None for all time.
        until_ms: up to, but without, this time.
        cache: a folder that keeps what was read, so that the next call reads only new files of the lake.

    Raises:
        TrainingError: the lake holds no event of that window.
    """
    if cache is None:
        read = _of_files(lake, lambda files: pa.concat_tables(_read_lines(files, since_ms=since_ms, until_ms=until_ms)))
    else:
        keep = LineCache(cache)
        everything = _of_files(
            lake, lambda files: keep.read(files, lambda new: _read_lines(new, since_ms=None, until_ms=None))
        )
        read = within(everything, since_ms=since_ms, until_ms=until_ms)
    if not read.num_rows:
        raise TrainingError("the window holds no interactions; widen it, or choose another cut with --until")
    return read.sort_by([("at_ms", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])


def require_recent(lake: Lake, *, since_ms: int) -> None:
    """Make sure that the lake holds interactions from ``since_ms`` on.

    Raises:
        TrainingError: all of them are older; the message says how old, and which cut would see them.
    """
    newest_ms = _of_files(lake, _newest_interaction_ms)
    if newest_ms is not None and newest_ms < since_ms:
        newest = from_ms(newest_ms)
        raise TrainingError(
            f"the lake's newest event is from {newest:%Y-%m-%d}; use --until {newest + timedelta(days=1):%Y-%m-%d}"
        )


def _newest_interaction_ms(files: Sequence[Path]) -> int | None:
    """Return when the newest interaction happened; files that cannot hold a newer one are not read."""
    newest_ms = None
    for path, last_ms in sorted(((path, _last_ms(path)) for path in files), key=lambda one: -one[1]):
        if newest_ms is not None and newest_ms >= last_ms:
            break
        about_items = pc.field("interaction").is_valid()
        times = pq.read_table(path, columns=["at_ms"], filters=about_items, partitioning=None)["at_ms"]
        if len(times):
            newest_ms = max(newest_ms or 0, pc.max(times).as_py())
    return newest_ms


def _last_ms(path: Path) -> int:
    """Return the time of the newest event of a file, from its statistics."""
    about = pq.read_metadata(path)
    groups = [about.row_group(n) for n in range(about.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    return max((one.statistics.max for one in columns if one.path_in_schema == "at_ms"), default=0)


def _read_lines(files: Sequence[Path], *, since_ms: int | None, until_ms: int | None) -> list[pa.Table]:
    # Ray Data's own Parquet reader takes a task per file to look at it; a day's file is too small for that.
    shares = [{"paths": [str(path) for path in files[n::READERS]]} for n in range(min(READERS, len(files)))]

    def read(share: Any) -> pa.Table:
        paths = [Path(path) for path in share["paths"][0]]
        return interactions_of(paths, since_ms=since_ms, until_ms=until_ms).select(COLUMNS)

    dataset = ray.data.from_items(shares, override_num_blocks=len(shares)).map_batches(read, batch_size=1)
    return list(ray.get(dataset.to_arrow_refs()))


def _of_files(lake: Lake, read: Callable[[list[Path]], Result]) -> Result:
    """Read the lake's files of events; once more if one was merged away between listing and opening."""
    for _ in range(READ_TRIES):
        files = lake.files("events")
        if not files:
            raise TrainingError(
                f"the lake at {lake.root} is empty; bring events in first, such as with `bespoke ingest`"
            )
        try:
            return read(files)
        except Exception:
            # What was raised in a Ray task comes back as another type, so the files themselves say what happened.
            if all(path.exists() for path in files):
                raise
    raise Unavailable(f"{lake.root}: files kept vanishing while they were read; try again")


def within(table: pa.Table, *, since_ms: int | None, until_ms: int | None) -> pa.Table:
    """Return the lines of ``[since_ms, until_ms)``; None for no bound."""
    if until_ms is not None:
        table = table.filter(pc.less(table["at_ms"], until_ms))
    if since_ms is not None:
        table = table.filter(pc.greater_equal(table["at_ms"], since_ms))
    return table


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
    return {user_id: History(user_id, newest_lines(lines), at_ms) for user_id, lines in grouped.items()}


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
