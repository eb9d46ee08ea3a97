"""The read-out of anybody's experiment: one file of rows, a column that names the variant, columns of figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from bespoke.errors import ConfigError
from bespoke.statistics.arm import Values
from bespoke.statistics.metric import Kind, Metric
from bespoke.statistics.readout import Column, Plan, Readout, Units, read_out

MAX_VARIANTS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One metric of a file: ``COL``, or ``COL:`` and ``conversion``, ``mean``, ``ratio:COL`` or ``quantile:0.9``."""

    column: str
    kind: str | None = None
    """None: conversion where the column holds yes and no only, else the mean."""
    detail: str | None = None

    @classmethod
    def parse(cls, text: str, columns: Sequence[str]) -> "Asked":
        """Read one; names of columns may hold colons.

        Raises:
            ConfigError: it names no column, or no kind there is.
        """
        if text in columns:
            return cls(text)
        column = max((name for name in columns if text.startswith(f"{name}:")), key=len, default=None)
        if column is None:
            raise ConfigError(f"metric {text!r}: no such column; there are: {', '.join(columns)}")
        kind, _, detail = text[len(column) + 1 :].partition(":")
        needs = {"conversion": False, "mean": False, "ratio": True, "quantile": True}
        if kind not in needs or needs[kind] != bool(detail):
            allowed = "conversion, mean, ratio:DENOMINATOR or quantile:SHARE"
            raise ConfigError(f"metric {text!r}: got kind {text[len(column) + 1 :]!r}, expected {allowed}")
        return cls(column, kind, detail or None)

    @property
    def denominator(self) -> str | None:
        """The column that a ratio is taken of."""
        return self.detail if self.kind == "ratio" else None

    def metric(self, value_U: Values) -> Metric:
        """Return the metric of what units have in the column.

        Raises:
            ConfigError: the quantile is none.
        """
        kind = self.kind or ("conversion" if np.isin(value_U, (0.0, 1.0)).all() else "mean")
        # Columns of files are called as they are, which need not be a name for a declared metric.
        try:
            q = float(self.detail or "") if kind == "quantile" else None
        except ValueError:
            raise ConfigError(
                f"metric {self.column!r}: {self.detail!r} is no quantile; write one such as 0.9"
            ) from None
        if q is not None and not 0 < q < 1:
            raise ConfigError(f"metric {self.column!r}: got quantile {q:g}, expected one above 0 and below 1")
        return Metric.model_construct(name=self.column, kind=cast(Kind, kind), q=q)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a file says."""

    readout: Readout
    rows: int
    left_out: int
    """Rows without a variant, a unit or a number."""
    crossed: int
    """Units with rows in several variants; they are left out too."""


def analyze(
    path: Path,
    *,
    variant: str,
    control: str,
    metrics: Sequence[str],
    unit: str | None = None,
    covariate: str | None = None,
    shares: Mapping[str, float] | None = None,
    looks: bool = False,
    planned_units: int | None = None,
) -> Analysis:
    """Return the read-out of a CSV or Parquet file.

    Args:
        path: one row per unit, or several that are added up where ``unit`` is given.
        variant: the column that names each row's variant.
        control: the variant that the others are held against.
        metrics: what to compare, as :class:`Asked` says.
        unit: the column that names each row's unit; each row is one if absent.
        covariate: a column from before the experiment, to adjust for.
        shares: what share each variant should have; equal ones if absent.
        looks: the file is one of several looks at an experiment that goes on.
        planned_units: of all variants, at the planned end; as many as there are if absent.

    Raises:
        ConfigError: the file cannot be read so; the message names the column and what there is.
    """
    table = _read(path)
    asked = [Asked.parse(text, table.column_names) for text in metrics]
    wanted = [one.column for one in asked] + [one.denominator for one in asked if one.denominator is not None]
    numbers = list(dict.fromkeys([*wanted, *([covariate] if covariate else [])]))
    for name in (variant, *([unit] if unit else []), *numbers):
        if name not in table.column_names:
            raise ConfigError(f"{path}: no column {name!r}; there are: {', '.join(table.column_names)}")
    kept, left_out = _whole(table, [variant, *([unit] if unit else [])], numbers, path)
    units, values, crossed = _by_unit(kept, variant, unit, numbers, covariate, path)
    names = _variants(units, control, path)
    columns = tuple(_column(one, values, covariate) for one in asked)
    number_of = {name: number for number, name in enumerate(names)}
    variant_U = np.array([number_of[name] for name in units], dtype=np.int64)
    found = Units(names, variant_U, columns)
    plan = Plan(_shares(names, shares), planned_units or max(len(variant_U), 1), once=not looks)
    return Analysis(read_out(found, plan), table.num_rows, left_out, crossed)


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        table = pq.read_table(path) if path.suffix in (".parquet", ".pq") else pa_csv.read_csv(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path}: it cannot be read as {path.suffix.lstrip('.') or 'CSV'}: {error}") from None
    if not table.num_rows:
        raise ConfigError(f"{path}: it has no rows")
    repeated = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if repeated:
        raise ConfigError(f"{path}: two columns are called {repeated[0]!r}; rename one")
    return table


def _whole(table: pa.Table, names: Sequence[str], numbers: Sequence[str], path: Path) -> tuple[pa.Table, int]:
    """Return the rows that have everything, names as text and numbers as floats; and how many have not."""
    columns = {name: table[name].cast(pa.string()) for name in names}
    columns |= {name: _numbers(table[name], name, path) for name in numbers}
    typed = pa.table(columns)
    mask = np.ones(typed.num_rows, dtype=np.bool_)
    for name in names:
        filled = pc.and_(pc.is_valid(typed[name]), pc.not_equal(pc.fill_null(typed[name], ""), ""))
        mask &= filled.to_numpy()
    for name in numbers:
        mask &= np.isfinite(pc.fill_null(typed[name], np.nan).to_numpy())
    kept = typed.filter(pa.array(mask))
    if not kept.num_rows:
        raise ConfigError(f"{path}: no row has a variant and a number in each of {', '.join(numbers)}")
    return kept, typed.num_rows - kept.num_rows


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    try:
        return (column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column).cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        first = next((value for value in column.to_pylist() if not _is_number(value)), None)
        raise ConfigError(f"{path}: column {name!r}: got {first!r}, expected numbers, or true and false") from None


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return value is None
    return True


def _by_unit(
    table: pa.Table, variant: str, unit: str | None, numbers: Sequence[str], covariate: str | None, path: Path
) -> tuple[list[str], dict[str, Values], int]:
    """Return each unit's variant, the sums of its rows, and how many units are in several variants."""
    if unit is None:
        return table[variant].to_pylist(), {name: table[name].to_numpy() for name in numbers}, 0
    sums = [(name, "sum") for name in numbers if name != covariate]
    # How often a unit comes is what it did: what was before stands once, however many rows repeat it.
    before = [] if covariate is None else [(covariate, "min"), (covariate, "max")]
    grouped = table.group_by(unit).aggregate([(variant, "min"), (variant, "max"), *sums, *before])
    if covariate and not pc.all(pc.equal(grouped[f"{covariate}_min"], grouped[f"{covariate}_max"])).as_py():
        raise ConfigError(f"{path}: column {covariate!r} differs between the rows of a unit; give one figure per unit")
    same = pc.equal(grouped[f"{variant}_min"], grouped[f"{variant}_max"])
    kept = grouped.filter(same)
    values = {name: kept[f"{name}_{'min' if name == covariate else 'sum'}"].to_numpy() for name in numbers}
    return kept[f"{variant}_min"].to_pylist(), values, grouped.num_rows - kept.num_rows


def _variants(units: Sequence[str], control: str, path: Path) -> tuple[str, ...]:
    names = sorted(set(units))
    if control not in names:
        raise ConfigError(f"{path}: no variant {control!r}; there are: {', '.join(names[:MAX_VARIANTS])}")
    if not 2 <= len(names) <= MAX_VARIANTS:
        raise ConfigError(f"{path}: got {len(names)} variants, expected 2 to {MAX_VARIANTS}")
    return (control, *(name for name in names if name != control))


def _column(asked: Asked, values: Mapping[str, Values], covariate: str | None) -> Column:
    value_U = values[asked.column]
    denominator_U = None if asked.denominator is None else values[asked.denominator]
    return Column(asked.metric(value_U), value_U, denominator_U, None if covariate is None else values[covariate])


def _shares(names: Sequence[str], shares: Mapping[str, float] | None) -> tuple[float, ...]:
    if shares is None:
        return (1.0,) * len(names)
    unknown = sorted(set(shares) ^ set(names))
    if unknown:
        raise ConfigError(f"shares: variant {unknown[0]!r} is named on one side only; the file has {', '.join(names)}")
    if min(shares.values()) < 0 or not sum(shares.values()) > 0:
        raise ConfigError(f"shares: got {dict(shares)}, expected none below 0 and some above it")
    return tuple(shares[name] for name in names)
