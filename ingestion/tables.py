"""Tables: somebody's CSV or Parquet as Arrow columns, in the order of time, with joined and computed values."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bespoke.clock import to_ms
from bespoke.errors import ConfigError, shown
from ingestion.mapping import Computed, Source

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv")
MISSING = pa.array(["", "NA", "N/A", "NULL", "null", "NaN", "nan", "None"])
"""What stands for no value in a column of numbers."""
LAST_MS = to_ms(datetime(9999, 12, 31, tzinfo=UTC))
_NUMBER = r"^\s*[+-]?\d+(\.\d+)?\s*$"
_LEADING_ZERO = r"^\s*[+-]?0\d"


def read_columns(path: Path, columns: Iterable[str], *, text: Iterable[str] = ()) -> pa.Table:
    """Read ``columns`` of a CSV or Parquet file.

    Parquet columns keep their types. A CSV column is numbers where all its values are, without leading zeros; those in
    ``text`` keep their exact spelling.

    Raises:
        ConfigError: the file cannot be read, or has not these columns.
    """
    wanted = list(dict.fromkeys(columns))
    name = path.name.lower()
    if not path.is_file():
        raise ConfigError(f"no file at {path}")
    if not name.endswith(SUFFIXES):
        raise ConfigError(f"{path} is none of {', '.join(SUFFIXES)}; export it as one of these")
    try:
        if name.endswith(".parquet"):
            _check_columns(path, pq.read_schema(path).names, wanted)
            return _plain(pq.read_table(path, columns=wanted))
        return _read_csv(path, wanted, frozenset(text))
    except UnicodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}; save it as UTF-8") from None
    except (pa.ArrowException, OSError) as error:
        way_out = "; save it as UTF-8" if "UTF8" in str(error) else ""
        raise ConfigError(f"{path} cannot be read: {shown(str(error), limit=300)}{way_out}") from error


def value_of(table: pa.Table, source: Source, *, folder: Path, text: bool = False) -> pa.ChunkedArray:
    """Return the values that ``source`` stands for, one per row; null where there is none.

    Args:
        table: columns of the main file.
        source: a column, or a computed value.
        folder: where a joined file lies.
        text: give them as text, in their exact spelling.

    Raises:
        ConfigError: a joined file is missing, a number is wanted and there is none, or a value is no text.
    """
    if isinstance(source, str):
        return as_text(table[source], source) if text else table[source]
    values = _joined(table, source, folder, text) if source.file else table[source.column]
    if source.divide_by is not None:
        by = as_numbers(table[source.divide_by], source.divide_by)
        values = pc.if_else(pc.equal(by, 0), None, pc.divide(as_numbers(values, source.column), by))
    if source.values is not None:
        found = pc.index_in(as_text(values, source.column), value_set=pa.array(list(source.values)))
        values = pc.take(pa.array(list(source.values.values())), found)
    return as_text(values, source.column) if text else values


def columns_of(source: Source | None) -> Sequence[str]:
    """Return the columns of the main file that ``source`` reads."""
    if source is None:
        return ()
    if isinstance(source, str):
        return (source,)
    own = source.key if source.file else source.column
    return tuple(name for name in (own, source.divide_by) if name is not None)


def as_text(values: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    """Return a column as text.

    Raises:
        ConfigError: its values have no text, such as lists and binary.
    """
    if pa.types.is_string(values.type):
        return values
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowException as error:
        raise ConfigError(f"column {column!r} holds {values.type}, which is no text: {error}") from error


def as_numbers(values: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    """Return a column as float64.

    Raises:
        ConfigError: names the column and a value that is no number.
    """
    if pa.types.is_string(values.type):
        values = _without_missing(values)
    try:
        return pc.cast(values, pa.float64())
    except pa.ArrowException as error:
        wrong = next((value for value in values.to_pylist() if not _is_number(value)), values.type)
        way_out = "write plain numbers such as 3.99, or take the column out of the mapping"
        raise ConfigError(f"column {column!r} holds {shown(wrong)}, expected numbers; {way_out}") from error


def times_ms(values: pa.ChunkedArray, *, unit: str) -> npt.NDArray[np.int64]:
    """Return milliseconds since 1970 [N]; -1 where the value is no time from 1970 to 9999.

    Times without a zone are taken as UTC.

    Raises:
        ConfigError: the times are numbers and ``unit`` does not say of what.
    """
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        whole = pc.cast(pc.cast(values, pa.timestamp("ms"), safe=False), pa.int64())
        times = pc.fill_null(whole, -1).to_numpy()
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        if unit == "iso" and len(values):
            raise ConfigError(f"timestamps are numbers such as {values[0]}; set time_unit to s or ms in the mapping")
        times = _counted(pc.cast(values, pa.float64()), unit)
    elif unit != "iso":
        text = as_text(values, "timestamp")
        numbers = pc.if_else(pc.match_substring_regex(text, _NUMBER), pc.utf8_trim_whitespace(text), None)
        times = _counted(pc.cast(numbers, pa.float64()), unit)
    else:
        times = _parsed(as_text(values, "timestamp"))
    return np.where((times >= 0) & (times <= LAST_MS), times, -1)


def group_order(times: npt.NDArray[np.int64], groups: pa.ChunkedArray | None) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the row order [N] by time with each group's rows together, and each group's size [G] and time [G].

    A group stands at the time of its first row that has one, -1 where none has. Without groups every row is its own,
    and so is a row that names no group.
    """
    if groups is None or not len(times):
        order = np.argsort(times, kind="stable")
        return order, np.ones(len(order), dtype=np.int64), times[order]
    if isinstance(groups, pa.ChunkedArray):
        groups = groups.combine_chunks()
    codes = pc.fill_null(pc.dictionary_encode(groups).indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    lonely = codes < 0
    codes[lonely] = codes.max() + 1 + np.arange(np.count_nonzero(lonely))
    first = np.full(codes.max() + 1, LAST_MS + 1)
    np.minimum.at(first, codes, np.where(times >= 0, times, LAST_MS + 1))
    first[first > LAST_MS] = -1
    order = np.lexsort((codes, first[codes]))
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return order, np.diff(np.append(starts, len(order))), first[ordered[starts]]


def _read_csv(path: Path, wanted: Sequence[str], text: frozenset[str]) -> pa.Table:
    delimiter = "\t" if path.name.lower().endswith(".tsv") else ","
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        _check_columns(path, reader.schema.names, wanted)
    # Arrow would guess types from the first block alone and fail where a later one differs.
    types = dict.fromkeys(wanted, pa.string())
    convert = pa.csv.ConvertOptions(include_columns=wanted, column_types=types)
    table = pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    columns = {name: _spelled(table[name]) if name in text else _typed(table[name]) for name in wanted}
    return pa.table(columns)


def _spelled(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(values, ""), None, values)


def _typed(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whole numbers, else numbers, else the text as it is."""
    numbers = _without_missing(values)
    if numbers.null_count == len(numbers) or pc.any(pc.match_substring_regex(numbers, _LEADING_ZERO)).as_py():
        return _spelled(values)
    for kind in (pa.int64(), pa.float64()):
        try:
            return pc.cast(numbers, kind)
        except pa.ArrowInvalid:
            continue
    return _spelled(values)


def _without_missing(values: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(trimmed, value_set=MISSING), None, trimmed)


def _plain(table: pa.Table) -> pa.Table:
    """Return a table without dictionaries and decimals, which no message can carry."""
    for place, column in enumerate(table.schema):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        kind = pa.float64() if pa.types.is_decimal(kind) else pa.string() if pa.types.is_large_string(kind) else kind
        if kind != column.type:
            table = table.set_column(place, column.name, pc.cast(table[place], kind))
    return table


def _check_columns(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        there = shown(", ".join(names), limit=1_000)[1:-1]
        raise ConfigError(f"{path} has no column {', '.join(missing)}; it has: {there}; edit the mapping")
    twice = [name for name in wanted if list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"{path} has several columns called {', '.join(twice)}; rename all but one")


def _joined(table: pa.Table, source: Computed, folder: Path, text: bool) -> pa.Array:
    assert source.file is not None and source.key is not None
    spelled = [source.key, source.column] if text or source.values else [source.key]
    other = read_columns(folder / source.file, [source.key, source.column], text=spelled)
    keys, known = table[source.key], other[source.key]
    if keys.type != known.type:
        keys, known = as_text(keys, source.key), as_text(known, source.key)
    return pc.take(other[source.column], pc.index_in(keys, value_set=known, skip_nulls=True))


def _is_number(value: object) -> bool:
    try:
        return value is None or float(str(value)) is not None
    except ValueError:
        return False


def _counted(numbers: pa.ChunkedArray, unit: str) -> npt.NDArray[np.int64]:
    times = pc.fill_null(numbers, -1.0).to_numpy() * (1_000 if unit == "s" else 1)
    return np.where((times >= 0) & (times <= LAST_MS), times, -1.0).astype(np.int64)


def _parsed(text: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    for kind in (pa.timestamp("ms"), pa.timestamp("ms", "UTC")):
        try:
            return pc.fill_null(pc.cast(pc.cast(text, kind), pa.int64()), -1).to_numpy()  # type: ignore[no-any-return]
        except pa.ArrowInvalid:
            continue
    return np.array([_one_time(value) for value in text.to_pylist()], dtype=np.int64)


def _one_time(value: str | None) -> int:
    try:
        return -1 if value is None else to_ms(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError):
        return -1
