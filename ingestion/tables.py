"""Tables: somebody's CSV or Parquet as Arrow columns, in the order of time, with joined and computed values."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bespoke.errors import ConfigError
from ingestion.mapping import Computed, Source

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv")


def find_file(given: Path, name: str | None) -> Path:
    """Return the file to read: ``given`` itself, or the one called ``name`` in the folder ``given``.

    Raises:
        ConfigError: there is no such file, or several and no name.
    """
    if given.is_file():
        return given if name is None or given.name == name else given.parent / name
    if not given.is_dir():
        raise ConfigError(f"no file or folder at {given}")
    files = sorted(path for path in given.iterdir() if path.name.endswith(SUFFIXES))
    if name is None and len(files) == 1:
        return files[0]
    if name is None or not (given / name).is_file():
        wanted = f"{name} is not in {given}" if name else f"{given} holds {len(files)} files and the mapping names none"
        raise ConfigError(f"{wanted}; there are: {', '.join(p.name for p in files) or 'no CSV or Parquet files'}")
    return given / name


def read_columns(path: Path, columns: Iterable[str], *, text: Iterable[str] = ()) -> pa.Table:
    """Read ``columns`` of a CSV or Parquet file; those in ``text`` keep their exact spelling (leading zeros, say).

    Raises:
        ConfigError: the file cannot be read, or has not these columns.
    """
    wanted = list(dict.fromkeys(columns))
    if not path.is_file():
        raise ConfigError(f"no file at {path}")
    try:
        if path.suffix == ".parquet":
            _check_columns(path, pq.read_schema(path).names, wanted)
            return pq.read_table(path, columns=wanted)
        parse = pa.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        with pa.csv.open_csv(path, parse_options=parse) as reader:
            _check_columns(path, reader.schema.names, wanted)
        convert = pa.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(text, pa.string()))
        return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def value_of(table: pa.Table, source: Source, *, folder: Path) -> pa.ChunkedArray:
    """Return the values that ``source`` stands for, one per row; null where there is none.

    Raises:
        ConfigError: a joined file is missing, or a number is wanted and there is none.
    """
    if isinstance(source, str):
        return table[source]
    values = _joined(table, source, folder) if source.file else table[source.column]
    if source.divide_by is not None:
        values = _divided(values, table[source.divide_by], source)
    if source.values is not None:
        names = pa.array(list(source.values))
        found = pc.index_in(pc.cast(values, pa.string()), value_set=names)
        values = pc.take(pa.array(list(source.values.values())), found)
    return values


def columns_of(source: Source | None) -> Sequence[str]:
    """Return the columns of the main file that ``source`` reads."""
    if source is None:
        return ()
    if isinstance(source, str):
        return (source,)
    own = source.key if source.file else source.column
    return tuple(name for name in (own, source.divide_by) if name is not None)


def times_ms(values: pa.ChunkedArray, *, unit: str) -> npt.NDArray[np.int64]:
    """Return milliseconds since 1970 [N]; -1 where the value is no time. Times without a zone are taken as UTC."""
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        whole = pc.cast(values, pa.timestamp("ms"), safe=False)
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        if unit == "iso":
            raise ConfigError(f"timestamps are numbers such as {values[0]}; set time_unit to s or ms in the mapping")
        factor = 1_000 if unit == "s" else 1
        return pc.fill_null(pc.cast(pc.multiply(values, factor), pa.int64(), safe=False), -1).to_numpy()  # type: ignore[no-any-return]
    else:
        whole = _parsed_times(values)
    return pc.fill_null(pc.cast(whole, pa.int64()), -1).to_numpy()  # type: ignore[no-any-return]


def group_order(times: npt.NDArray[np.int64], groups: pa.ChunkedArray | None) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the row order [N] by time with each group's rows together, and the start of each group [G].

    A group stands at the time of its first row. Without groups every row is its own.
    """
    if groups is None:
        order = np.argsort(times, kind="stable")
        return order, np.arange(len(order))
    encoded = pc.dictionary_encode(groups, null_encoding="encode").combine_chunks()
    codes = (encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded).indices.to_numpy()
    first = np.full(codes.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, codes, times)
    order = np.lexsort((codes, first[codes]))
    ordered = codes[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, np.int64)
    return order, starts


def _check_columns(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ConfigError(f"{path} has no column {', '.join(missing)}; it has: {', '.join(names)}; edit the mapping")


def _joined(table: pa.Table, source: Computed, folder: Path) -> pa.Array:
    assert source.file is not None and source.key is not None
    other = read_columns(folder / source.file, [source.key, source.column])
    found = pc.index_in(table[source.key], value_set=pc.cast(other[source.key], table[source.key].type))
    return pc.take(other[source.column], found)


def _divided(values: pa.Array, divisor: pa.Array, source: Computed) -> pa.Array:
    try:
        by = pc.cast(divisor, pa.float64())
        whole = pc.divide(pc.cast(values, pa.float64()), by)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{source.column} / {source.divide_by}: not numbers: {error}") from error
    return pc.if_else(pc.equal(by, 0), None, whole)


def _parsed_times(values: pa.ChunkedArray) -> pa.Array:
    try:
        return pc.cast(pc.cast(values, pa.string()), pa.timestamp("ms", "UTC"))
    except pa.ArrowInvalid:
        return pa.chunked_array([[_one_time(value) for value in values.to_pylist()]], pa.timestamp("ms", "UTC"))


def _one_time(value: object) -> pa.TimestampScalar | None:
    from datetime import datetime

    from bespoke.clock import utc

    try:
        return utc(datetime.fromisoformat(str(value)))
    except ValueError:
        return None
