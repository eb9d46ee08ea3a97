"""Messages from tables: what the rows of a mapped file say, in the Segment dialect."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.catalog import Item
from bespoke.clock import from_ms
from bespoke.errors import InvalidEvent
from bespoke.events import ItemId
from ingestion.files import find_file
from ingestion.mapping import CatalogPart, Computed, EventsPart, TraitsPart, template_parts
from ingestion.tables import as_numbers, as_text, columns_of, group_order, read_columns, times_ms, value_of

ROWS_AT_ONCE = 50_000
TEXT = frozenset({"user", "anonymous", "event", "product.product_id", "product.category"})
"""The values of a message that are text whatever the file holds them as."""
NUMBERS = frozenset({"product.quantity", "product.price"})
A_TIME = "a time from 1970 to 9999; numbers count as `time_unit` of the mapping says"


@dataclass(frozen=True, slots=True)
class Raw:
    """One message before it is checked, and the time that it names (-1: none that can be read)."""

    message: dict[str, Any]
    at_ms: int
    lines: int
    problem: InvalidEvent | None = None
    """Why the rows make no message, or None."""


def event_messages(
    given: Path, part: EventsPart, *, name: str, since_ms: int | None, until_ms: int | None
) -> Iterator[Raw]:
    """Return the messages of a file in the order of time, those within ``[since_ms, until_ms)``.

    A message of several rows stands at the time of its first one. Where the mapping has no template, the id of a
    message follows from its content, so the same rows in another file are the same messages.

    Raises:
        ConfigError: the file or one of its columns is missing.
    """
    table, times = _events_table(find_file(given, part.file), part)
    order, sizes, at_ms = group_order(times, table["group"] if part.group_by else None)
    keep = _within(at_ms, since_ms, until_ms)
    messages = _batches(table, order[np.repeat(keep, sizes)], sizes[keep], at_ms[keep], part)
    return messages if part.message_id else _identified(messages, name)


def count_messages(given: Path, part: EventsPart) -> int:
    """Return how many messages the file holds, for a progress bar."""
    column = part.group_by or columns_of(part.timestamp)[0]
    values = read_columns(find_file(given, part.file), [column], text=[column])[column]
    return pc.count_distinct(values).as_py() + values.null_count if part.group_by else len(values)


def trait_messages(given: Path, part: TraitsPart, *, name: str, at_ms: int) -> Iterator[Raw]:
    """Return one identify per row, said at ``at_ms``; its id changes with what is said.

    Raises:
        ConfigError: the file or one of its columns is missing.
    """
    table = read_columns(find_file(given, part.file), [part.user_id, *part.columns], text=[part.user_id])
    people = as_text(table[part.user_id], part.user_id).to_pylist()
    columns = [table[column].to_pylist() for column in part.columns]
    said = from_ms(at_ms).isoformat()

    def identify(person: str, values: Sequence[Any]) -> Raw:
        traits = {key: value for key, value in zip(part.columns, values, strict=True) if value is not None}
        message_id = f"{name}-traits-{_digest([person, traits])}"
        message = {"type": "identify", "messageId": message_id, "userId": person, "traits": traits, "timestamp": said}
        return Raw(message, at_ms, 0)

    return (identify(person, values) for person, *values in zip(people, *columns, strict=True))


def catalog_items(given: Path, part: CatalogPart) -> list[Item]:
    """Return the items of a file; rows without an id are left out.

    Raises:
        ConfigError: the file or one of its columns is missing, or a price or a number of days is no number.
    """
    numeric = [column for column in (part.price, part.rebuy_after_days) if column]
    names = [column for column in (part.item_id, part.name, part.brand, *part.category) if column]
    table = read_columns(find_file(given, part.file), [*names, *numeric], text=names)

    def column(name: str | None) -> Sequence[Any]:
        return as_text(table[name], name).to_pylist() if name else [None] * table.num_rows

    def numbers(name: str | None) -> Sequence[Any]:
        return as_numbers(table[name], name).to_pylist() if name else column(None)

    levels = [column(name) for name in part.category]
    rows = zip(
        column(part.item_id),
        column(part.name),
        zip(*levels, strict=True) if levels else [()] * table.num_rows,
        column(part.brand),
        numbers(part.price),
        numbers(part.rebuy_after_days),
        strict=True,
    )
    return [
        Item(
            ItemId(item_id),
            name,
            tuple(level for level in category if level),
            brand,
            price,
            rebuy_after_days=rebuy_after_days,
        )
        for item_id, name, category, brand, price, rebuy_after_days in rows
        if item_id
    ]


def _events_table(path: Path, part: EventsPart) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Return the columns that messages are made of, under the names that messages give them, and the times [N]."""
    sources = part.sources()
    wanted = [column for source in (part.timestamp, *sources.values()) for column in columns_of(source)]
    parts = template_parts(part.message_id or "")
    own = [column for _, column in parts if column] + ([part.group_by] if part.group_by else [])
    table = read_columns(path, [*wanted, *own], text=[*own, *_text_columns(part)])
    columns = {key: value_of(table, source, folder=path.parent, text=key in TEXT) for key, source in sources.items()}
    if part.group_by:
        columns["group"] = table[part.group_by]
    if part.message_id:
        columns["id"] = _filled(table, parts)
    when = value_of(table, part.timestamp, folder=path.parent)
    times = times_ms(when, unit=part.time_unit)
    if (times < 0).any():
        columns["when"] = pc.if_else(pa.array(times < 0), as_text(when, "timestamp"), None)
    return pa.table(columns), times


def _text_columns(part: EventsPart) -> Iterator[str]:
    """Yield the columns to read in their exact spelling: ids, keys of joins, and what stands for something else."""
    for key, source in part.sources().items():
        if isinstance(source, Computed) and (source.file or source.values or key in TEXT):
            yield columns_of(source)[0]
        elif isinstance(source, str) and key in TEXT:
            yield source


def _filled(table: pa.Table, parts: Iterable[tuple[str, str | None]]) -> pa.ChunkedArray:
    """Return a template with each row's values; null where one of them is missing."""
    pieces = [
        piece
        for literal, column in parts
        for piece in (pa.scalar(literal), as_text(table[column], column) if column else pa.scalar(""))
    ]
    return pc.binary_join_element_wise(*pieces, "")


def _within(at_ms: npt.NDArray[np.int64], since_ms: int | None, until_ms: int | None) -> npt.NDArray[np.bool_]:
    """Return which messages to keep; those without a time are kept, so that they are told as rejected."""
    inside = np.ones(len(at_ms), dtype=bool)
    if since_ms is not None:
        inside &= at_ms >= since_ms
    if until_ms is not None:
        inside &= at_ms < until_ms
    return inside | (at_ms < 0)


def _batches(
    table: pa.Table,
    order: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    part: EventsPart,
) -> Iterator[Raw]:
    """Yield the messages; only some rows at a time become Python values."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(ends):
        begin = int(ends[first] - sizes[first])
        last = max(first + 1, int(np.searchsorted(ends, begin + ROWS_AT_ONCE, side="right")))
        rows = table.take(pa.array(order[begin : ends[last - 1]]))
        yield from _messages(rows, ends[first:last] - begin, at_ms[first:last], part)
        first = last


def _messages(
    table: pa.Table, ends: npt.NDArray[np.int64], times: npt.NDArray[np.int64], part: EventsPart
) -> Iterator[Raw]:
    columns = {key: _values(table, key) for key in table.column_names}
    properties = {key.removeprefix("property."): values for key, values in columns.items() if key[:9] == "property."}
    products = _products({key[8:]: values for key, values in columns.items() if key[:8] == "product."}, table.num_rows)
    start = 0
    for end, at_ms in zip(ends.tolist(), times.tolist(), strict=True):
        message: dict[str, Any] = {
            "type": part.type.value,
            "event": columns["event"][start] if "event" in columns else part.event,
            "properties": {key: values[start] for key, values in properties.items()},
            "timestamp": from_ms(at_ms).isoformat() if at_ms >= 0 else columns["when"][start],
        }
        for key, name in (("id", "messageId"), ("user", "userId"), ("anonymous", "anonymousId")):
            if key in columns:
                message[name] = columns[key][start]
        if part.group_by:
            message["properties"]["products"] = products[start:end]
        elif part.product:
            message["properties"].update(products[start])
        yield Raw(message, at_ms, end - start if part.product else 0, _problem(columns, start, message, at_ms, part))
        start = end


def _problem(
    columns: dict[str, list[Any]], row: int, message: dict[str, Any], at_ms: int, part: EventsPart
) -> InvalidEvent | None:
    if at_ms < 0:
        return InvalidEvent("timestamp", message["timestamp"], A_TIME)
    if part.group_by and columns["group"][row] is None:
        return InvalidEvent(part.group_by, None, "a value: rows that share it are one message")
    if part.message_id and message["messageId"] is None:
        return InvalidEvent("messageId", None, f"a value in every column that {part.message_id!r} names")
    return None


def _values(table: pa.Table, key: str) -> list[Any]:
    values: list[Any] = table[key].to_pylist()
    # One price that is no number makes the whole column text; the others are good all the same.
    return [_number(value) for value in values] if key in NUMBERS and pa.types.is_string(table[key].type) else values


def _number(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _products(columns: dict[str, list[Any]], rows: int) -> list[dict[str, Any]]:
    if not columns:
        return [{} for _ in range(rows)]
    names = list(columns)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]


def _identified(messages: Iterable[Raw], name: str) -> Iterator[Raw]:
    """Give each message an id that follows from its content; equal ones differ by how many came before."""
    equal: Counter[str] = Counter()
    at_ms = -1
    for raw in messages:
        if raw.at_ms != at_ms:
            # The time is part of the content and messages come in its order: no equal one can follow.
            equal.clear()
            at_ms = raw.at_ms
        digest = _digest(raw.message)
        raw.message["messageId"] = f"{name}-{digest}" + (f"-{equal[digest]}" if equal[digest] else "")
        equal[digest] += 1
        yield raw


def _digest(content: Any) -> str:
    return blake2b(orjson.dumps(content, default=str), digest_size=12).hexdigest()
