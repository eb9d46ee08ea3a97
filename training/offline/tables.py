"""Files as tables: Parquet or delimited text, one file or a folder of them, with errors that name the file."""

import csv
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from bespoke.errors import TrainingError
from training.offline.columns import Place

TEXT_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
DELIMITERS = ",\t;|"
NULLS = ["", "NULL", "null", "None", "NA", "\\N"]
Readers = Mapping[str, Callable[[pa.ChunkedArray, Place], Any]]


def read_table(path: Path, *, required: Readers, optional: Readers, others: bool = False) -> pa.Table:
    """Return the rows of a file, or of all files of a folder in the order of their names.

    Args:
        path: a Parquet file, delimited text (its first line names the columns), or a folder of such files.
        required: columns that must be there, and how each is read.
        optional: columns that are taken where they are there, and how each is read.
        others: whether all other columns come along as they are.

    Raises:
        TrainingError: there is no such file, it cannot be read, it has no rows, a column is missing or holds nonsense.
    """
    tables = [
        _converted(_read(file, required, optional, others), file, {**required, **optional}) for file in _files(path)
    ]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise TrainingError(f"{path}: its files do not fit together: {_first_line(error)}") from None
    if not table.num_rows:
        raise TrainingError(f"{path} has no rows")
    return table


def _converted(table: pa.Table, path: Path, readers: Readers) -> pa.Table:
    for number, name in enumerate(table.column_names):
        if name in readers:
            table = table.set_column(number, name, pa.array(readers[name](table[name], Place(str(path), name))))
    return table


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise TrainingError(f"no file at {path}; there are: {_beside(path)}")
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _known(file))
    if not found:
        raise TrainingError(f"{path} is a folder without {', '.join((*PARQUET_SUFFIXES, *TEXT_SUFFIXES))} files")
    return found


def _known(path: Path) -> bool:
    hidden = path.name.startswith((".", "_"))
    return not hidden and path.name.lower().endswith((*PARQUET_SUFFIXES, *TEXT_SUFFIXES))


def _beside(path: Path) -> str:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    names = sorted(str(one) for one in folder.iterdir() if _known(one))[:10]
    return ", ".join(names) or f"no Parquet or CSV files in {folder}"


def _read(path: Path, required: Readers, optional: Readers, others: bool) -> pa.Table:
    name = path.name.lower()
    if not name.endswith((*PARQUET_SUFFIXES, *TEXT_SUFFIXES)):
        raise TrainingError(f"{path}: expected a {', '.join((*PARQUET_SUFFIXES, *TEXT_SUFFIXES))} file or a folder")
    if not path.stat().st_size:
        raise TrainingError(f"{path} is empty")
    try:
        parquet = name.endswith(PARQUET_SUFFIXES)
        table = _read_parquet(path, required, optional, others) if parquet else _read_text(path)
    except pa.ArrowException as error:
        raise TrainingError(f"{path} cannot be read: {_first_line(error)}") from None
    except (EOFError, gzip.BadGzipFile, UnicodeError, csv.Error) as error:
        raise TrainingError(f"{path} cannot be read: {_first_line(error)}") from None
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or _first_line(error)}") from None
    table = table.rename_columns([column.strip().strip("\ufeff") for column in table.column_names])
    lacking = [column for column in required if column not in table.column_names]
    if lacking:
        raise TrainingError(f"{path} has no column {', '.join(lacking)}; it has: {', '.join(table.column_names)}")
    return table.select([column for column in table.column_names if others or column in {**required, **optional}])


def _read_parquet(path: Path, required: Readers, optional: Readers, others: bool) -> pa.Table:
    file = pq.ParquetFile(path)
    wanted = [name for name in file.schema_arrow.names if name.strip() in {**required, **optional}]
    # Where something is missing, the whole table comes back, so that the error can name what is there.
    whole = others or any(name not in wanted for name in required)
    return _plain(file.read() if whole else file.read(columns=wanted))


def _plain(table: pa.Table) -> pa.Table:
    """Return the table without dictionary columns and schema notes."""
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(number, field.name, pc.cast(table[number], field.type.value_type))
    return table.replace_schema_metadata(None)


def _read_text(path: Path) -> pa.Table:
    """Return delimited text, every column as strings: what they mean is decided where they are used."""
    header, delimiter = _header(path)
    double = [name for name in header if header.count(name) > 1]
    if double:
        raise TrainingError(f"{path} has two columns named {double[0]!r}")
    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in header}, null_values=NULLS, strings_can_be_null=True
        ),
    )


def _header(path: Path) -> tuple[list[str], str]:
    """Return the names of the columns as they stand in the first line, and what stands between them."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        first = file.readline(1 << 20)
    counts = {delimiter: first.count(delimiter) for delimiter in DELIMITERS}
    delimiter = max(counts, key=lambda one: counts[one])
    return next(csv.reader([first], delimiter=delimiter), []), delimiter


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
