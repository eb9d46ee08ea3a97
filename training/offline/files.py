"""Files of interactions, candidates and items, read into one numbering."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import TrainingError
from bespoke.models.arrays import AnyArray
from training.offline import columns
from training.offline.columns import OTHER_CODE, Codes
from training.offline.items import read_items
from training.offline.lines import Candidates, Ids, Lines, pair_of, rows_of
from training.offline.tables import read_table

USER, ITEM, TYPE, TIME, WEIGHT = "user_id", "item_id", "event_type", "timestamp", "weight"
PAIR = {USER: columns.ids, ITEM: columns.ids}


@dataclass(frozen=True, slots=True)
class Source:
    """What a file held, and what of it was left out."""

    path: str
    rows: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Rows that were left out, by reason."""
    unknown_event_types: Mapping[str, int] = field(default_factory=dict)
    """Rows of types that are none of ours; they count 1."""


@dataclass(frozen=True, slots=True)
class World:
    """All that was read, in one numbering."""

    ids: Ids
    train: Lines
    test: Lines | None
    catalog: Catalog
    candidates: Candidates | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Raw:
    user_N: pa.Array
    item_N: pa.Array
    at_ms_N: AnyArray | None
    type_N: Codes
    weight_N: AnyArray
    source: Source


def read_world(
    train: Path, *, test: Path | None = None, items: Path | None = None, candidates: Path | None = None
) -> World:
    """Read files of interactions, and of items and candidates where there are any.

    Raises:
        TrainingError: a file is missing, cannot be read, lacks a column, holds nonsense or nothing that counts; train
            and test have no user and no item in common.
    """
    raws = {"train": _read_lines(train)} | ({} if test is None else {"test": _read_lines(test)})
    catalog = EMPTY_CATALOG if items is None else read_items(items)
    pairs = None if candidates is None else _read_pairs(candidates)
    tables = [(raw.user_N, raw.item_N) for raw in raws.values()] + ([] if pairs is None else [pairs[:2]])
    ids = Ids(_distinct([users for users, _ in tables]), _distinct([some for _, some in tables], sorted(catalog)))
    timed = all(raw.at_ms_N is not None for raw in raws.values())
    lines = {name: _lines(raw, ids, timed=timed) for name, raw in raws.items()}
    sources = {name: raw.source for name, raw in raws.items()} | ({} if pairs is None else {"candidates": pairs[2]})
    world = World(
        ids, lines["train"], lines.get("test"), catalog, None if pairs is None else _candidates(pairs, ids), sources
    )
    _check_common(world, train, test)
    return world


def _read_lines(path: Path) -> _Raw:
    more = {TYPE: columns.texts, TIME: columns.times_ms, WEIGHT: columns.weights}
    table = read_table(path, required=PAIR, optional=more)
    users, items, count = _column(table, USER), _column(table, ITEM), table.num_rows
    at_ms_N, weight_N = _doubles(table, TIME), _doubles(table, WEIGHT)
    # A column without a single value says as much as none.
    timed = not np.isnan(at_ms_N).all()
    type_N, unknown = np.full(count, OTHER_CODE, dtype=np.int8), dict[str, int]()
    if TYPE in table.column_names:
        type_N, unknown = columns.interaction_types(table[TYPE])
    lacking = {
        "no user_id": np.asarray(pc.is_null(users)),
        "no item_id": np.asarray(pc.is_null(items)),
        "no timestamp": np.isnan(at_ms_N) & timed,
        "weight 0": weight_N == 0,
    }
    kept_N = ~np.logical_or.reduce(list(lacking.values()))
    source = Source(str(path), count, _reasons(lacking), unknown)
    if not kept_N.any():
        raise TrainingError(f"{path}: all of its {count} rows were left out: {_said(source.dropped)}")
    kept = pa.array(kept_N)
    return _Raw(
        users.filter(kept),
        items.filter(kept),
        at_ms_N[kept_N].astype(np.int64) if timed else None,
        type_N[kept_N],
        weight_N[kept_N],
        source,
    )


def _read_pairs(path: Path) -> tuple[pa.Array, pa.Array, Source]:
    table = read_table(path, required=PAIR, optional={})
    users, items = _column(table, USER), _column(table, ITEM)
    lacking = {"no user_id": np.asarray(pc.is_null(users)), "no item_id": np.asarray(pc.is_null(items))}
    kept = pa.array(~np.logical_or.reduce(list(lacking.values())))
    return users.filter(kept), items.filter(kept), Source(str(path), table.num_rows, _reasons(lacking))


def _column(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _doubles(table: pa.Table, name: str) -> AnyArray:
    """Return a column of numbers, NaN where there is none."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    found: AnyArray = _column(table, name).to_numpy(zero_copy_only=False).astype(np.float64)
    return found


def _reasons(lacking: Mapping[str, AnyArray]) -> dict[str, int]:
    """Return how many rows each reason leaves out; a row counts for the first reason that it gives."""
    left, counts = np.ones(len(next(iter(lacking.values()))), dtype=bool), {}
    for reason, rows in lacking.items():
        counts[reason] = int((rows & left).sum())
        left &= ~rows
    return {reason: count for reason, count in counts.items() if count}


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} with {reason}" for reason, count in counts.items())


def _distinct(arrays: list[pa.Array], more: list[Any] | None = None) -> tuple[Any, ...]:
    """Return the distinct ids in alphabetical order."""
    found = {id for array in arrays for id in pc.unique(array).to_pylist()}
    return tuple(sorted(found.union(more or ())))


def _lines(raw: _Raw, ids: Ids, *, timed: bool) -> Lines:
    return Lines.of(
        ids,
        rows_of(raw.user_N, ids.users),
        rows_of(raw.item_N, ids.items),
        raw.at_ms_N if timed else None,
        raw.type_N,
        raw.weight_N,
    )


def _candidates(pairs: tuple[pa.Array, pa.Array, Source], ids: Ids) -> Candidates:
    user_N, item_N = rows_of(pairs[0], ids.users), rows_of(pairs[1], ids.items)
    return Candidates(ids, np.unique(pair_of(user_N, item_N, ids)))


def _check_common(world: World, train: Path, test: Path | None) -> None:
    if world.test is None:
        return
    users = np.intersect1d(world.train.user_rows, world.test.user_rows)
    items = np.intersect1d(world.train.item_N, world.test.item_N)
    if not len(users) and not len(items):
        raise TrainingError(
            f"{train} and {test} have no user and no item in common (such as user "
            f"{world.ids.users[world.train.user_N[0]]!r} and user {world.ids.users[world.test.user_N[0]]!r}); "
            "are they of one data set?"
        )
