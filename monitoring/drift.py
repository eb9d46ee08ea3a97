"""Drift: how far the features now are from those that a model was trained on.

One method and one threshold for every column and every size, so that reports compare: Wasserstein's distance in
standard deviations of the reference, after values beyond the 99th percentile of both sides together were pulled in to
it. Without that cap a few large spenders set the distance. Of two samples without drift the distance stays below
5 / sqrt(rows) in about 999 of 1,000 draws, whatever the shape of the values: hence ``THRESHOLD`` and ``MIN_VALUES``.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

METHOD = "wasserstein"
THRESHOLD = 0.25
MISSING_THRESHOLD = 0.1
MIN_VALUES = 500
MAX_ROWS = 5_000
CAP_SHARE = 0.99
PROJECT = "Feature drift"


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column has moved."""

    column: str
    score: float | None
    """Distance in standard deviations of the reference; None where too few values stand on a side."""
    drifted: bool
    """The score reached ``threshold``, or the share of missing values moved by ``MISSING_THRESHOLD``."""
    missing_reference: float
    missing_now: float
    """Share of rows without a value."""
    note: str = ""
    """What a reader of the score should know."""
    method: str = METHOD
    threshold: float = THRESHOLD


@dataclass(frozen=True, slots=True)
class DriftSummary:
    """A drift report in figures."""

    model: str
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
    def share(self) -> float:
        """Share of the columns that drifted."""
        return len(self.drifted) / len(self.columns) if self.columns else 0.0


def drift_report(
    reference: pa.Table, now: pa.Table, *, model: str, at: datetime, reports_dir: Path, seed: int = 0
) -> DriftSummary:
    """Compare two tables of features, write the report and add it to Evidently's workspace.

    Args:
        reference: what the model was trained on; numbers, NaN where there is none.
        now: the same columns.
        model: whose reference it is, such as ``als@20260101T000000Z-1``.
        at: the time that ``now`` was taken for.
        reports_dir: gets the page and the folder ``workspace`` that :func:`monitoring.ui.serve_ui` shows.
        seed: of the sample, which both sides are cut to where they have more than ``MAX_ROWS`` rows.
    """
    rng = np.random.default_rng(seed)
    before, after = capped(sampled(reference, rng), sampled(now, rng))
    names = list(reference.column_names)
    compared = [name for name in names if min(before[name].count(), after[name].count()) >= MIN_VALUES]
    snapshot = _evidently(before[compared], after[compared], model=model, at=at)
    scores = _scores(snapshot)
    columns = tuple(_column_drift(before[name], after[name], scores.get(name)) for name in names)
    html = reports_dir / f"drift-{model}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.html"
    reports_dir.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(html))
    _add_to_workspace(snapshot, reports_dir / "workspace")
    return DriftSummary(model, at, columns, len(before), len(after), html)


def sampled(table: pa.Table, rng: np.random.Generator) -> pd.DataFrame:
    """Return at most ``MAX_ROWS`` rows of ``table``, drawn without order; infinite values count as missing."""
    if table.num_rows > MAX_ROWS:
        table = table.take(np.sort(rng.choice(table.num_rows, MAX_ROWS, replace=False)))
    frame: pd.DataFrame = table.to_pandas().astype(np.float64)
    return frame.replace([np.inf, -np.inf], np.nan)


def capped(before: pd.DataFrame, after: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pull the values beyond the 99th percentile of both sides together in to it, column by column."""
    cap = pd.concat([before, after]).quantile(CAP_SHARE)
    return before.clip(upper=cap, axis="columns"), after[before.columns].clip(upper=cap, axis="columns")


def _column_drift(before: pd.Series, after: pd.Series, score: float | None) -> ColumnDrift:
    missing_before, missing_after = (float(side.isna().mean()) if len(side) else 1.0 for side in (before, after))
    missing_moved = abs(missing_after - missing_before) >= MISSING_THRESHOLD
    notes = [*_notes(before, after), *(["the share of missing values moved"] if missing_moved else [])]
    return ColumnDrift(
        column=str(before.name),
        score=score,
        drifted=missing_moved or (score is not None and score >= THRESHOLD),
        missing_reference=missing_before,
        missing_now=missing_after,
        note="; ".join(notes),
    )


def _notes(before: pd.Series, after: pd.Series) -> Sequence[str]:
    few = min(before.count(), after.count())
    if few < MIN_VALUES:
        return [f"not compared: {few} values on a side, at least {MIN_VALUES} are needed"]
    if before.nunique() == 1:
        return [f"the reference is constant at {before.max():g}: the distance is in thousandths, not in deviations"]
    return []


def _evidently(before: pd.DataFrame, after: pd.DataFrame, *, model: str, at: datetime) -> Any:
    with warnings.catch_warnings():
        # Evidently warns, while it is imported, of what it does itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import RowCount
        from evidently.presets import DataDriftPreset

    columns = list(before.columns)
    definition = DataDefinition(numerical_columns=columns)
    drift = [DataDriftPreset(columns=columns, method=METHOD, threshold=THRESHOLD)] if columns else []
    # Evidently correlates constant columns, too.
    with np.errstate(invalid="ignore"):
        return Report([RowCount(), *drift]).run(
            Dataset.from_pandas(after, data_definition=definition),
            Dataset.from_pandas(before, data_definition=definition),
            timestamp=at,
            name=f"{model} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            metadata={"model": model},
        )


def _scores(snapshot: Any) -> dict[str, float]:
    metrics = [(metric["config"], metric["value"]) for metric in snapshot.dict()["metrics"]]
    return {config["column"]: float(value) for config, value in metrics if config["type"].endswith(":ValueDrift")}


def _add_to_workspace(snapshot: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.sdk.models import PanelMetric
        from evidently.sdk.panels import line_plot_panel
        from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    found = workspace.search_project(PROJECT)
    project = found[0] if found else workspace.create_project(PROJECT)
    if not found:
        share = PanelMetric(metric="DriftedColumnsCount", metric_labels={"value_type": "share"}, legend="share")
        project.dashboard.add_panel(line_plot_panel(title="Share of drifted features", values=[share]), tab="Drift")
    workspace.add_run(project.id, snapshot)
