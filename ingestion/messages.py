"""Messages from tables: what the rows of a mapped file say, in the Segment dialect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog import Item
from bespoke.clock import from_ms
from bespoke.errors import ConfigError
from bespoke.events import ItemId
from ingestion.mapping import CatalogPart, Computed, EventsPart, Source, TraitsPart
from ingestion.tables import columns_of, find_file, group_order, read_columns, times_ms, value_of

ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class Raw:
    """One message before it is checked, and the time that it names (-1: none that can be read)."""

    message: dict[str, Any]
    at_ms: int
    lines: int


def event_messages(
    given: Path, part: EventsPart, *, name: str, since_ms: int | None, until_ms: int | None
) -> Iterator[Raw]:
    """Yield the messages of a file in the order of time, those within ``[since_ms, until_ms)``.

    Raises:
        ConfigError: the file or one of its columns is missing.
    """
    path = find_file(given, part.file)
    table, times = _events_table(path, part)
    if since_ms is not None or until_ms is not None:
        keep = _within(times, since_ms, until_ms)
        table, times = table.filter(pa.array(keep)), times[keep]
    order, starts = group_order(times, table["group"] if part.group_by else None)
    ends = np.append(starts[1:], len(order))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + ROWS_AT_ONCE)))
        rows = order[starts[first] : ends[last - 1]]
        bounds = starts[first : last + 1] if last < len(starts) else np.append(starts[first:], len(order))
        yield from _messages(table.take(pa.array(rows)), times[rows], bounds - bounds[0], part, name)
        first = last


def count_messages(given: Path, part: EventsPart) -> int:
    """Return how many messages the file holds, for a progress bar."""
    path = find_file(given, part.file)
    column = part.group_by or columns_of(part.timestamp)[0]
    values = read_columns(path, [column])[column]
    return pc.count_distinct(values, mode="all").as_py() if part.group_by else len(values)


def trait_messages(given: Path, part: TraitsPart, *, name: str, at_ms: int) -> Iterator[Raw]:
    """Yield one identify per row, said at ``at_ms``."""
    path = find_file(given, part.file)
    table = read_columns(path, [part.user_id, *part.columns], text=[part.user_id])
    people = pc.cast(table[part.user_id], pa.string()).to_pylist()
    columns = [table[column].to_pylist() for column in part.columns]
    for person, *values in zip(people, *columns, strict=True):
        traits = {key: value for key, value in zip(part.columns, values, strict=True) if value is not None}
        message = {"type": "identify", "messageId": f"{name}-traits-{person}", "userId": person, "traits": traits}
        yield Raw({**message, "timestamp": from_ms(at_ms).isoformat()}, at_ms, 0)


def catalog_items(given: Path, part: CatalogPart) -> list[Item]:
    """Return the items of a file; rows without an id are left out."""
    path = find_file(given, part.file)
    extra = [column for column in (part.name, part.brand, part.price) if column]
    table = read_columns(path, [part.item_id, *part.category, *extra], text=[part.item_id])

    def column(name: str | None, kind: pa.DataType) -> Sequence[Any]:
        return pc.cast(table[name], kind).to_pylist() if name else [None] * table.num_rows

    levels = [column(name, pa.string()) for name in part.category]
    rows = zip(
        column(part.item_id, pa.string()),
        column(part.name, pa.string()),
        zip(*levels, strict=True) if levels else [()] * table.num_rows,
        column(part.brand, pa.string()),
        column(part.price, pa.float64()),
        strict=True,
    )
    return [
        Item(ItemId(item_id), name, tuple(level for level in category if level), brand, price)
        for item_id, name, category, brand, price in rows
        if item_id
    ]


def _events_table(path: Path, part: EventsPart) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Return the columns that messages are made of, under the names that messages give them, and the times [N]."""
    template = [field for _, field, _, _ in Formatter().parse(part.message_id or "") if field]
    sources: dict[str, Source | None] = {
        "user": part.user_id,
        "anonymous": part.anonymous_id,
        "group": part.group_by,
        **{f"property.{key}": source for key, source in part.properties.items()},
        **{f"product.{key}": source for key, source in part.product.items()},
        **{f"id.{field}": field for field in template},
    }
    if isinstance(part.event, Computed):
        sources["event"] = part.event
    used = {key: source for key, source in sources.items() if source is not None}
    wanted = [column for source in [part.timestamp, *used.values()] for column in columns_of(source)]
    ids = [source for key in ("user", "anonymous", "product.product_id") if isinstance(source := used.get(key), str)]
    table = read_columns(path, wanted, text=ids)
    times = times_ms(value_of(table, part.timestamp, folder=path.parent), unit=part.time_unit)
    columns = {key: value_of(table, source, folder=path.parent) for key, source in used.items()}
    for key in {"user", "anonymous", "product.product_id", "product.category"} & columns.keys():
        columns[key] = pc.cast(columns[key], pa.string())
    columns["row"] = pa.array(np.arange(1, table.num_rows + 1))
    return pa.table(columns), times


def _within(times: npt.NDArray[np.int64], since_ms: int | None, until_ms: int | None) -> npt.NDArray[np.bool_]:
    """Return which rows to keep; those without a time are kept, so that they are told as rejected."""
    inside = np.ones(len(times), dtype=bool)
    if since_ms is not None:
        inside &= times >= since_ms
    if until_ms is not None:
        inside &= times < until_ms
    return inside | (times < 0)


def _messages(
    table: pa.Table, times: npt.NDArray[np.int64], starts: npt.NDArray[np.int64], part: EventsPart, name: str
) -> Iterator[Raw]:
    columns = {key: table[key].to_pylist() for key in table.column_names}
    properties = {key.removeprefix("property."): values for key, values in columns.items() if key[:9] == "property."}
    products = _products({key[8:]: values for key, values in columns.items() if key[:8] == "product."}, len(times))
    identify = _message_ids(columns, part, name)
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        at_ms = int(times[start:end].max())
        message: dict[str, Any] = {
            "type": part.type.value,
            "messageId": identify(start),
            "event": columns["event"][start] if "event" in columns else part.event,
            "properties": {key: values[start] for key, values in properties.items()},
        }
        if "user" in columns:
            message["userId"] = columns["user"][start]
        if "anonymous" in columns:
            message["anonymousId"] = columns["anonymous"][start]
        if part.group_by:
            message["properties"]["products"] = products[start:end]
        elif part.product:
            message["properties"].update(products[start])
        if at_ms >= 0:
            message["timestamp"] = from_ms(at_ms).isoformat()
        yield Raw(message, at_ms, end - start if part.product else 0)


def _products(columns: dict[str, list[Any]], rows: int) -> list[dict[str, Any]]:
    if not columns:
        return [{} for _ in range(rows)]
    names = list(columns)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]


def _message_ids(columns: dict[str, list[Any]], part: EventsPart, name: str) -> Any:
    template = part.message_id
    if template is None:
        rows = columns["row"]
        return lambda row: f"{name}-row-{rows[row]}"
    fields = [field for _, field, _, _ in Formatter().parse(template) if field]
    if not fields:
        raise ConfigError(f"message_id {template!r} names no column, so all messages would be one; write {{column}}")
    return lambda row: template.format(**{field: columns[f"id.{field}"][row] for field in fields})
