"""The items' part of the profile store: what everybody together does with each item, counted with the offset.

Each partition has rows of its own, since each has one writer; the value of an item is the merge over partitions. What a
row counts moves in one transaction with the offset up to which the lake has the partition's events, so nothing counts
twice, whatever is gathered again after a crash.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from sqlalchemy import ARRAY, ColumnElement, Connection, Engine, String, any_, bindparam, func, literal, select, update

from bespoke.events import ItemId
from bespoke.items import ItemState, ItemStates, merged
from storage.profile_tables import item_states
from storage.sql import reading, upsert, writing

_TIMES = ("first_ms_I", "last_ms_I", "received_ms_I", "sold_ms_I")
_NUMBER = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One item's state over all partitions."""

    item_id: ItemId
    state: ItemState
    version: int
    """Grows with every write of a partition; of two readings the later has never the smaller one."""
    parts: tuple[tuple[int, int], ...] = field(default=(), compare=False)
    """Each partition that has seen the item, with the version of its share."""


class ItemRows:
    """Reads and writes what the store keeps of items."""

    _engine: Engine

    def items(self, item_ids: Iterable[str]) -> list[StoredItem]:
        """Return the stored items among ``item_ids``, in no order; what nobody ever touched is absent."""
        columns = item_states.c
        query = (
            select(columns.partition, columns.item_id, columns.version, columns.state)
            .where(self._among(list(item_ids)))
            .order_by(columns.partition)
        )
        with reading(self._engine) as connection:
            return _over_partitions(connection.execute(query).all())

    def all_items(self, *, at_once: int) -> Iterator[list[StoredItem]]:
        """Yield every item, by id, in lists of at most ``at_once``."""
        columns, after = item_states.c, ""
        while True:
            query = (
                select(columns.item_id)
                .distinct()
                .where(columns.item_id > after)
                .order_by(columns.item_id)
                .limit(at_once)
            )
            with reading(self._engine) as connection:
                ids = list(connection.scalars(query))
            if not ids:
                return
            yield self.items(ids)
            after = ids[-1]

    def unpushed_items(self, of_partitions: Iterable[int], *, limit: int) -> list[StoredItem]:
        """Return at most ``limit`` items of which these partitions have counted what was not yet pushed."""
        columns = item_states.c
        query = (
            select(columns.item_id)
            .where(columns.pushed_version < columns.version, columns.partition.in_(list(of_partitions)))
            .order_by(columns.version)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            ids = dict.fromkeys(connection.scalars(query))
        return self.items(ids)

    def mark_items_pushed(self, items: Iterable[StoredItem], *, of_partitions: Iterable[int]) -> None:
        """Remember that these were pushed as they are here; what these partitions counted meanwhile still waits."""
        own = set(of_partitions)
        marks = [
            {"of_partition": partition, "of_item": item.item_id, "pushed": version}
            for item in items
            for partition, version in item.parts
            if partition in own
        ]
        if marks:
            with writing(self._engine, durable=False) as connection:
                connection.execute(_MARK_PUSHED, marks)

    def _counted(self, partition: int, version: int, counted: ItemStates) -> list[tuple[Any, ...]]:
        """Return the rows of ``partition`` with ``counted`` in them, in the order of the table's columns."""
        columns = item_states.c
        query = select(columns.item_id, columns.state)
        query = query.where(columns.partition == partition, self._among(list(counted.ids)))
        with reading(self._engine) as connection:
            found = connection.execute(query).all()
        whole = merged([counted, unpack_items([row.item_id for row in found], [row.state for row in found])])
        states = zip(whole.ids, pack_items(whole), strict=True)
        return [(partition, item_id, version, 0, state) for item_id, state in states]

    def _save_items(self, connection: Connection, rows: list[tuple[Any, ...]]) -> None:
        """Write rows of :meth:`_counted`. A flush brings thousands, and by the driver alone they take half the time."""
        statement = upsert(self._engine, item_states, update=["version", "pushed_version", "state"])
        names = item_states.c.keys()
        compiled = statement.compile(dialect=self._engine.dialect, column_keys=names)
        if compiled.positional:
            connection.exec_driver_sql(str(compiled), rows)
        else:
            connection.exec_driver_sql(str(compiled), [dict(zip(names, row, strict=True)) for row in rows])

    def _among(self, item_ids: list[str]) -> ColumnElement[bool]:
        """Return the condition that an item is one of these, as one value: a list of thousands costs more to write
        into a statement than to look up.
        """
        column = item_states.c.item_id
        if self._engine.dialect.name == "postgresql":
            return column == any_(literal(item_ids, ARRAY(String)))
        listed = func.json_each(orjson.dumps(item_ids).decode()).table_valued("value")
        return column.in_(select(listed.c.value))


_MARK_PUSHED = (
    update(item_states)
    .where(
        item_states.c.partition == bindparam("of_partition"),
        item_states.c.item_id == bindparam("of_item"),
        item_states.c.pushed_version < bindparam("pushed"),
    )
    .values(pushed_version=bindparam("pushed"))
)


def pack_items(states: ItemStates) -> list[bytes]:
    """Return the form in which each item's state rests: numbers of 64 bits, its times, then each key and count."""
    entries_I = np.bincount(states.item_E, minlength=len(states.ids))
    sizes_I = len(_TIMES) + 2 * entries_I
    ends_I = np.cumsum(sizes_I)
    starts_I = ends_I - sizes_I
    flat = np.empty(int(sizes_I.sum()), _NUMBER)
    for place, name in enumerate(_TIMES):
        flat[starts_I + place] = getattr(states, name)
    within_E = np.arange(len(states.item_E)) - (np.cumsum(entries_I) - entries_I)[states.item_E]
    places_E = starts_I[states.item_E] + len(_TIMES) + 2 * within_E
    flat[places_E], flat[places_E + 1] = states.key_E, states.count_E
    packed, width = flat.tobytes(), _NUMBER.itemsize
    bounds = zip((starts_I * width).tolist(), (ends_I * width).tolist(), strict=True)
    return [packed[start:end] for start, end in bounds]


def unpack_items(ids: Sequence[str], packed: Sequence[bytes]) -> ItemStates:
    """Return the states that :func:`pack_items` wrote, each item once."""
    flat = np.frombuffer(b"".join(packed), _NUMBER).astype(np.int64, copy=False)
    sizes_I = np.array([len(state) for state in packed], np.int64) // _NUMBER.itemsize
    starts_I = np.cumsum(sizes_I) - sizes_I
    first_ms_I, last_ms_I, received_ms_I, sold_ms_I = (flat[starts_I + place] for place in range(len(_TIMES)))
    entries_I = (sizes_I - len(_TIMES)) // 2
    item_E = np.repeat(np.arange(len(ids)), entries_I)
    within_E = np.arange(len(item_E)) - (np.cumsum(entries_I) - entries_I)[item_E]
    places_E = starts_I[item_E] + len(_TIMES) + 2 * within_E
    entries = item_E, flat[places_E], flat[places_E + 1]
    return ItemStates(ids, first_ms_I, last_ms_I, received_ms_I, sold_ms_I, *entries)


def _over_partitions(rows: Sequence[Any]) -> list[StoredItem]:
    parts: dict[str, list[tuple[int, int]]] = {}
    of_partition: dict[int, list[Any]] = {}
    for row in rows:
        parts.setdefault(row.item_id, []).append((row.partition, row.version))
        of_partition.setdefault(row.partition, []).append(row)
    states = merged(
        unpack_items([row.item_id for row in some], [row.state for row in some]) for some in of_partition.values()
    )
    return [
        StoredItem(ItemId(id), state, sum(version for _, version in parts[id]), tuple(parts[id]))
        for id, state in states
    ]
