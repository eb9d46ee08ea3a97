"""Drift: how far columns now are from a reference, by one method and one floor for every column and every size.

What a column's distance is, and from where on it counts, stands in :mod:`bespoke.statistics.drift`; the pages that
Evidently draws say the same, since it is given these methods. A column is an alarm where it drifted in two windows in
a row: what happened once may be chance, or a holiday.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.statistics.drift import MIN_VALUES, Distance, category_distance, number_distance
from monitoring.evidently_report import write_report

MISSING_FLOOR = 0.1
"""A column whose share of missing values moved by so much has drifted, too."""
MAX_ROWS = 5_000
"""Of what is now; of the reference twice as many, since every window is held against the same."""
MAX_CATEGORIES = 50
"""The most frequent ones of the reference; the others are taken together."""
OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column has moved."""

    column: str
    score: float | None
    """Kolmogorov's distance of numbers, total variation of categories; None where a side has too few values."""
    floor: float
    """A distance below it does not matter."""
    p_value: float | None
    drifted: bool
    """The distance matters and is not chance, or the share of missing values moved."""
    alarm: bool
    """It had drifted in the window before, too."""
    missing_reference: float
    missing_now: float
    """Share of rows without a value."""
    note: str = ""
    """What a reader of the score should know."""


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """A drift report in figures."""

    subject: str
    """What was compared, such as ``features of als@20260101T000000Z-1``."""
    at: datetime
    columns: tuple[ColumnDrift, ...]
    reference_rows: int
    """Rows that were compared, after sampling."""
    rows_now: int
    html: Path

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns that drifted."""
        return tuple(column.column for column in self.columns if column.drifted)

    @property
    def alarms(self) -> tuple[str, ...]:
        """The columns that drifted twice in a row."""
        return tuple(column.column for column in self.columns if column.alarm)

    @property
    def share(self) -> float:
        """Share of the columns that drifted."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def drift_report(
    reference: pa.Table,
    now: pa.Table,
    *,
    subject: str,
    at: datetime,
    reports_dir: Path,
    drifted_before: Collection[str] = (),
    seed: int = 0,
) -> DriftSummary:
    """Compare two tables, write the report and add it to Evidently's workspace.

    Args:
        reference: what now is held against: columns of numbers, NaN where there is none, or of text.
        now: the same columns.
        subject: what they are, for the report's name.
        at: the time that ``now`` was taken for.
        reports_dir: gets the page and the folder ``workspace`` that :func:`monitoring.ui.serve_ui` shows.
        drifted_before: the columns that drifted in the window before.
        seed: of the samples that large tables are cut to.
    """
    before, after, columns = compare(reference, now, drifted_before=drifted_before, seed=seed)
    html = reports_dir / f"drift-{subject.replace(' ', '-')}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.html"
    compared = [column.column for column in columns if column.score is not None]
    write_report(before[compared], after[compared], subject=subject, at=at, html=html)
    return DriftSummary(subject, at, columns, len(before), len(after), html)


def compare(
    reference: pa.Table, now: pa.Table, *, drifted_before: Collection[str] = (), seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[ColumnDrift, ...]]:
    """Return what was compared of either table, and how far each column has moved."""
    rng = np.random.default_rng(seed)
    before, after = sampled(reference, 2 * MAX_ROWS, rng), sampled(now, MAX_ROWS, rng)
    after = after[before.columns]
    for name in before.columns:
        if not pd.api.types.is_numeric_dtype(before[name]):
            before[name], after[name] = _with_other(before[name], after[name])
    columns = [_column_drift(before[name], after[name], drifted_before) for name in before.columns]
    return before, after, tuple(columns)


def sampled(table: pa.Table, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return at most so many rows, drawn without order; infinite values count as missing, empty text too."""
    if table.num_rows > rows:
        table = table.take(np.sort(rng.choice(table.num_rows, rows, replace=False)))
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            columns[name] = pd.Series(pc.if_else(pc.equal(column, ""), None, column).to_pandas(), dtype=object)
        else:
            columns[name] = column.to_pandas().astype(np.float64).replace([np.inf, -np.inf], np.nan)
    return pd.DataFrame(columns)


def _with_other(before: pd.Series, after: pd.Series) -> tuple[pd.Series, pd.Series]:
    known = set(before.value_counts().index[:MAX_CATEGORIES])
    kept = [side.where(side.isna() | side.isin(known), OTHER) for side in (before, after)]
    return kept[0], kept[1]


def _column_drift(before: pd.Series, after: pd.Series, drifted_before: Collection[str]) -> ColumnDrift:
    name = str(before.name)
    distance = _distance(before.dropna(), after.dropna())
    missing_before, missing_after = (float(side.isna().mean()) if len(side) else 1.0 for side in (before, after))
    missing_moved = abs(missing_after - missing_before) >= MISSING_FLOOR
    drifted = missing_moved or (distance is not None and distance.drifted)
    return ColumnDrift(
        column=name,
        score=None if distance is None else distance.score,
        floor=0.0 if distance is None else distance.floor,
        p_value=None if distance is None else distance.p_value,
        drifted=drifted,
        alarm=drifted and name in drifted_before,
        missing_reference=missing_before,
        missing_now=missing_after,
        note="; ".join(_notes(before, after, missing_moved=missing_moved)),
    )


def _distance(before: pd.Series, after: pd.Series) -> Distance | None:
    if min(len(before), len(after)) < MIN_VALUES:
        return None
    measure = number_distance if pd.api.types.is_numeric_dtype(before) else category_distance
    return measure(before.to_numpy(), after.to_numpy())


def _notes(before: pd.Series, after: pd.Series, *, missing_moved: bool) -> Sequence[str]:
    few = min(before.count(), after.count())
    told = [f"not compared: {few} values on a side, at least {MIN_VALUES} are needed"] if few < MIN_VALUES else []
    return [*told, "the share of missing values moved"] if missing_moved else told
