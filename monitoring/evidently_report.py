"""Comparisons as Evidently's pages and workspace, by our methods: its own are others for small and large tables."""

import warnings
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bespoke.statistics.drift import CATEGORY_FLOOR, NUMBER_FLOOR, Distance, category_distance, number_distance

PROJECT = "Drift"
NUMBERS, CATEGORIES = "kolmogorov_distance", "total_variation"


def write_report(before: pd.DataFrame, after: pd.DataFrame, *, subject: str, at: datetime, html: Path) -> None:
    """Write the page of a comparison and add it to the workspace beside it; columns are numbers or text."""
    snapshot = evidently_snapshot(before, after, subject=subject, at=at)
    html.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(html))
    _add_to_workspace(snapshot, html.parent / "workspace")


def evidently_snapshot(before: pd.DataFrame, after: pd.DataFrame, *, subject: str, at: datetime) -> Any:
    """Return Evidently's result of a comparison."""
    _register_methods()
    with warnings.catch_warnings():
        # Evidently warns, while it is imported, of what it does itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import RowCount, ValueDrift

    numbers = [name for name in before.columns if pd.api.types.is_numeric_dtype(before[name])]
    texts = [name for name in before.columns if name not in numbers]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    drift = [ValueDrift(column=name, method=NUMBERS, threshold=NUMBER_FLOOR) for name in numbers]
    drift += [ValueDrift(column=name, method=CATEGORIES, threshold=CATEGORY_FLOOR) for name in texts]
    # Evidently correlates constant columns, too.
    with np.errstate(invalid="ignore"):
        return Report([RowCount(), *drift]).run(
            Dataset.from_pandas(after, data_definition=definition),
            Dataset.from_pandas(before, data_definition=definition),
            timestamp=at,
            name=f"{subject} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            metadata={"subject": subject},
        )


@cache
def _register_methods() -> None:
    """Make our distances known to Evidently, once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
        from evidently.legacy.core import ColumnType

    def said(found: Distance) -> tuple[float, bool]:
        return found.score, found.drifted

    def numbers(before: pd.Series, after: pd.Series, _: object, __: float) -> tuple[float, bool]:
        return said(number_distance(before.to_numpy(), after.to_numpy()))

    def categories(before: pd.Series, after: pd.Series, _: object, __: float) -> tuple[float, bool]:
        return said(category_distance(before.to_numpy(), after.to_numpy()))

    numerical = StatTest(NUMBERS, "Kolmogorov's distance, beyond chance", [ColumnType.Numerical], NUMBER_FLOOR)
    categorical = StatTest(CATEGORIES, "total variation, beyond chance", [ColumnType.Categorical], CATEGORY_FLOOR)
    register_stattest(numerical, numbers)
    register_stattest(categorical, categories)


def _add_to_workspace(snapshot: Any, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    found = workspace.search_project(PROJECT)
    project = found[0] if found else workspace.create_project(PROJECT)
    workspace.add_run(project.id, snapshot)
