"""The lake's tables: Arrow schemas of events, state rows and items, and how rows become columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from bespoke.catalog import Item
from bespoke.events import Event, Line
from bespoke.profiles import STATE_COLUMNS

TIMESTAMP = pa.timestamp("ms", tz="UTC")

LINE = pa.struct(
    [
        ("item_id", pa.string()),
        ("quantity", pa.float64()),
        ("price", pa.float64()),
        ("category", pa.string()),
        ("brand", pa.string()),
    ]
)

EVENTS = pa.schema(
    [
        ("message_id", pa.string()),
        ("type", pa.string()),
        ("name", pa.string()),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("person", pa.string()),
        ("at_ms", pa.int64()),
        ("received_ms", pa.int64()),
        ("event_time", TIMESTAMP),
        ("received_at", TIMESTAMP),
        ("interaction", pa.string()),
        ("lines", pa.list_(LINE)),
        ("properties_json", pa.string()),
        ("traits_json", pa.string()),
        ("context_json", pa.string()),
        ("source", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)

INTERACTIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("interaction", pa.string()),
        ("quantity", pa.float64()),
        ("price", pa.float64()),
        ("category", pa.string()),
        ("at_ms", pa.int64()),
    ]
)
"""One row per line of an event; ``user_id`` is the raw id that keys the person."""

_STATE_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "ints": pa.list_(pa.int64()),
    "floats": pa.list_(pa.float64()),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
}
_STATE = pa.schema(
    [*((name, _STATE_TYPES[kind]) for name, kind in STATE_COLUMNS.items()), ("segments", pa.list_(pa.string()))]
)

STATES = pa.schema(
    [
        ("user_id", pa.string()),
        ("event_timestamp", TIMESTAMP),
        ("created_timestamp", pa.timestamp("us", tz="UTC")),
        ("version", pa.int64()),
        *_STATE,
    ]
)

ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("name", pa.string()),
        ("category", pa.list_(pa.string())),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("available", pa.bool_()),
        ("rebuy_after_days", pa.float64()),
        ("event_timestamp", TIMESTAMP),
    ]
)
"""``event_timestamp`` is since when the item is described so."""

_MIN_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class StateRow:
    """A person's state as of one message, on its way to the lake."""

    user_id: str
    version: int
    row_json: bytes
    """The JSON of :func:`bespoke.profiles.to_row` and ``segments``: it never becomes Python values on the way."""

    @classmethod
    def of(cls, row: "StateRow | Mapping[str, Any]") -> "StateRow":
        """Return ``row``; a mapping holds ``user_id``, ``version`` and the columns of ``to_row``."""
        return row if isinstance(row, StateRow) else cls(row["user_id"], row["version"], orjson.dumps(dict(row)))


def events_table(events: Sequence[Event], offsets: Sequence[int], *, partition: int) -> pa.Table:
    """Return ``events`` as a table of schema :data:`EVENTS`."""
    at_ms = pa.array([event.at_ms for event in events], pa.int64())
    received_ms = pa.array([event.received_ms for event in events], pa.int64())
    columns = {
        "message_id": [event.message_id for event in events],
        "type": [event.type.value for event in events],
        "name": [event.name for event in events],
        "user_id": [event.user_id for event in events],
        "anonymous_id": [event.anonymous_id for event in events],
        "person": [event.person for event in events],
        "at_ms": at_ms,
        "received_ms": received_ms,
        "event_time": at_ms.cast(TIMESTAMP),
        "received_at": received_ms.cast(TIMESTAMP),
        "interaction": [event.interaction for event in events],
        "lines": _lines_array([event.lines for event in events]),
        "properties_json": [_json(_without_products(event)) for event in events],
        "traits_json": [_json(event.traits) for event in events],
        "context_json": [_json(event.context) for event in events],
        "source": [event.source for event in events],
        "partition": pa.repeat(pa.scalar(partition, pa.int32()), len(events)),
        "offset": offsets,
    }
    return pa.table(columns, schema=EVENTS)


def _lines_array(lines_of: Sequence[Sequence[Line]]) -> pa.ListArray:
    starts = pa.array([0, *accumulate(map(len, lines_of))], pa.int32())
    lines = list(chain.from_iterable(lines_of))
    fields = [
        pa.array([line.item_id for line in lines], pa.string()),
        pa.array([float(line.quantity) for line in lines], pa.float64()),
        pa.array([line.price for line in lines], pa.float64()),
        pa.array([line.category for line in lines], pa.string()),
        pa.array([line.brand for line in lines], pa.string()),
    ]
    return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays(fields, fields=list(LINE)))


def _without_products(event: Event) -> Mapping[str, Any]:
    # The lines say it already, in columns.
    if not event.lines or "products" not in event.properties:
        return event.properties
    return {name: value for name, value in event.properties.items() if name != "products"}


def _json(value: Mapping[str, Any]) -> bytes:
    return orjson.dumps(value) if value else b"{}"


def interactions_batch(events: pa.RecordBatch) -> pa.RecordBatch:
    """Return one row per line of ``events``, of schema :data:`INTERACTIONS`, by Arrow kernels alone."""
    lines = events.column("lines")
    flat, parent = pc.list_flatten(lines), pc.list_parent_indices(lines)
    return pa.record_batch(
        [
            events.column("person").take(parent),
            pc.struct_field(flat, "item_id"),
            events.column("interaction").take(parent),
            pc.struct_field(flat, "quantity"),
            pc.struct_field(flat, "price"),
            pc.struct_field(flat, "category"),
            events.column("at_ms").take(parent),
        ],
        schema=INTERACTIONS,
    )


def states_table(rows: Iterable[StateRow | Mapping[str, Any]]) -> pa.Table:
    """Return state rows as a table of schema :data:`STATES`, ordered by version.

    ``event_timestamp`` is when the newest of the events folded in was received. ``created_timestamp`` breaks ties
    between rows of one person that share it: it adds the version in microseconds, so the later row always wins, and a
    row that is written twice is the same.
    """
    ordered = sorted(map(StateRow.of, rows), key=lambda row: (row.version, row.user_id))
    state = _read_json([row.row_json for row in ordered])
    version = pa.array([row.version for row in ordered], pa.int64())
    event_timestamp = state.column("received_ms").cast(TIMESTAMP)
    created_us = pc.add(pc.multiply(state.column("received_ms"), 1_000), version)
    columns = [
        pa.array([row.user_id for row in ordered], pa.string()),
        event_timestamp,
        created_us.cast(pa.timestamp("us", tz="UTC")),
        version,
        *state.columns,
    ]
    return pa.table(columns, schema=STATES)


def _read_json(rows: Sequence[bytes]) -> pa.Table:
    if not rows:
        return _STATE.empty_table()
    # A row may not be longer than a block.
    block_bytes = max(_MIN_BLOCK_BYTES, 2 * max(map(len, rows)))
    return pa_json.read_json(
        pa.BufferReader(b"\n".join(rows)),
        read_options=pa_json.ReadOptions(block_size=block_bytes, use_threads=False),
        parse_options=pa_json.ParseOptions(explicit_schema=_STATE, unexpected_field_behavior="ignore"),
    ).select(_STATE.names)


def items_table(items: Sequence[Item], *, at_ms: int) -> pa.Table:
    """Return ``items``, described so since ``at_ms``, as a table of schema :data:`ITEMS`."""
    columns = {
        "item_id": [item.item_id for item in items],
        "name": [item.name for item in items],
        "category": [list(item.category) for item in items],
        "brand": [item.brand for item in items],
        "price": [item.price for item in items],
        "available": [item.available for item in items],
        "rebuy_after_days": [item.rebuy_after_days for item in items],
        "event_timestamp": pa.repeat(pa.scalar(at_ms, TIMESTAMP), len(items)),
    }
    return pa.table(columns, schema=ITEMS)
