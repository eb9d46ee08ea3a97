"""Drift reports say what an independent computation says, and what they cannot say."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from monitoring.drift import MAX_ROWS, MIN_VALUES, THRESHOLD, DriftSummary, capped, drift_report, sampled

Floats = npt.NDArray[np.float64]

AT = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
ROWS = 800


def distance(one: Floats, other: Floats) -> float:
    """Wasserstein's distance of two samples, as the area between their distribution functions."""
    at = np.sort(np.concatenate([one, other]))
    below_one = np.searchsorted(np.sort(one), at[:-1], side="right") / len(one)
    below_other = np.searchsorted(np.sort(other), at[:-1], side="right") / len(other)
    return float(np.sum(np.abs(below_one - below_other) * np.diff(at)))


def expected_score(before: Floats, after: Floats) -> float:
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    cap = np.quantile(np.concatenate([before, after]), 0.99)
    before, after = np.minimum(before, cap), np.minimum(after, cap)
    return distance(before, after) / max(float(np.std(before)), 0.001)


def some_missing(values: Floats, share: float, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(len(values)) < share, np.nan, values)


def columns(rng: np.random.Generator) -> dict[str, tuple[Floats, Floats]]:
    """Pairs of samples, the reference first, of which it is known whether they drifted."""
    n = ROWS
    still = {
        "normal": (rng.normal(size=n), rng.normal(size=n)),
        "spenders": (rng.lognormal(sigma=1.5, size=n), rng.lognormal(sigma=1.5, size=n)),
        "mostly_zero": (rng.poisson(0.2, n).astype(float), rng.poisson(0.2, n).astype(float)),
        "missing": (some_missing(rng.normal(size=n), 0.3, rng), some_missing(rng.normal(size=n), 0.3, rng)),
        "constant": (np.zeros(n), np.zeros(n)),
        "infinite": (np.append(rng.normal(size=n - 1), np.inf), rng.normal(size=n)),
    }
    moved = {
        "moved_shifted": (rng.normal(size=n), rng.normal(0.5, size=n)),
        "moved_wider": (rng.normal(size=n), rng.normal(scale=2.0, size=n)),
        "moved_rare": ((rng.random(n) < 0.01).astype(float), (rng.random(n) < 0.3).astype(float)),
        "moved_from_constant": (np.full(n, 3.0), np.full(n, 4.0)),
        "moved_missing": (rng.normal(size=n), some_missing(rng.normal(size=n), 0.3, rng)),
        "moved_gone": (rng.normal(size=n), np.full(n, np.nan)),
    }
    return {**still, **moved, "empty": (np.full(n, np.nan), np.full(n, np.nan))}


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[Floats, Floats]]:
    return columns(np.random.default_rng(3))


@pytest.fixture(scope="module")
def summary(pairs: dict[str, tuple[Floats, Floats]], tmp_path_factory: pytest.TempPathFactory) -> DriftSummary:
    before = pa.table({name: pair[0] for name, pair in pairs.items()})
    after = pa.table({name: pair[1] for name, pair in pairs.items()})
    return drift_report(before, after, model="als@1", at=AT, reports_dir=tmp_path_factory.mktemp("home") / "reports")


def test_what_moved_is_reported_and_what_did_not_is_not(summary: DriftSummary) -> None:
    assert summary.drifted == tuple(column.column for column in summary.columns if column.column.startswith("moved_"))
    assert summary.share == 6 / 13


def test_every_score_equals_an_independent_computation(
    summary: DriftSummary, pairs: dict[str, tuple[Floats, Floats]]
) -> None:
    scored = {column.column: column.score for column in summary.columns if column.score is not None}
    assert scored.keys() == pairs.keys() - {"moved_gone", "empty"}
    assert scored == pytest.approx({name: expected_score(*pairs[name]) for name in scored}, abs=1e-9)


def test_what_cannot_be_compared_is_said(summary: DriftSummary) -> None:
    note_of = {column.column: column.note for column in summary.columns}
    assert note_of["empty"] == "not compared: 0 values on a side, at least 500 are needed"
    assert note_of["moved_gone"].endswith("the share of missing values moved")
    assert note_of["moved_from_constant"].startswith("the reference is constant at 3")
    assert note_of["normal"] == ""


def test_missing_values_are_counted(summary: DriftSummary, pairs: dict[str, tuple[Floats, Floats]]) -> None:
    for column in summary.columns:
        before, after = pairs[column.column]
        assert column.missing_reference == pytest.approx(np.mean(~np.isfinite(before)))
        assert column.missing_now == pytest.approx(np.mean(~np.isfinite(after)))


def test_the_page_and_the_workspace_hold_the_report(summary: DriftSummary) -> None:
    from evidently.ui.workspace import Workspace

    assert summary.html.name == "drift-als@1-20260301T063000Z.html"
    assert "moved_shifted" in summary.html.read_text()
    workspace = Workspace(str(summary.html.parent / "workspace"))
    (project,) = workspace.search_project("Feature drift")
    (run,) = workspace.list_runs(project.id)
    assert workspace.get_run(project.id, run).timestamp == AT


def test_constant_columns_without_missing_values_are_compared(summary: DriftSummary) -> None:
    table = pa.table({"views": np.zeros(ROWS), "orders": np.arange(1.0 * ROWS)})
    report = drift_report(table, table, model="als@3", at=AT, reports_dir=summary.html.parent / "constant")
    assert [column.score for column in report.columns] == [0.0, 0.0]


def test_a_second_report_joins_the_first_in_one_project(summary: DriftSummary) -> None:
    from evidently.ui.workspace import Workspace

    few = pa.table({"orders": np.arange(10.0)})
    again = drift_report(few, few.slice(0, 0), model="als@2", at=AT, reports_dir=summary.html.parent)
    assert [(column.score, column.drifted) for column in again.columns] == [(None, True)]
    assert (again.reference_rows, again.rows_now) == (10, 0)
    workspace = Workspace(str(summary.html.parent / "workspace"))
    (project,) = workspace.search_project("Feature drift")
    assert len(workspace.list_runs(project.id)) == 2


def test_large_tables_are_sampled_the_same_way_each_time() -> None:
    table = pa.table({"x": np.arange(3.0 * MAX_ROWS)})
    one, again = (sampled(table, np.random.default_rng(7)) for _ in range(2))
    assert len(one) == MAX_ROWS
    assert one.equals(again)
    assert one["x"].is_unique


def draw(shape: str, rng: np.random.Generator) -> Floats:
    if shape == "normal":
        return rng.normal(size=MIN_VALUES)
    if shape == "lognormal":
        return rng.lognormal(sigma=1.5, size=MIN_VALUES)
    return rng.poisson(0.2, MIN_VALUES).astype(np.float64)


@pytest.mark.parametrize("shape", ["normal", "lognormal", "poisson"])
def test_without_drift_the_smallest_comparison_rarely_alarms(shape: str) -> None:
    rng = np.random.default_rng(11)
    alarms = sum(expected_score(draw(shape, rng), draw(shape, rng)) >= THRESHOLD for _ in range(1_000))
    assert alarms <= 3


def test_the_cap_is_that_of_both_sides_together() -> None:
    low, high = pa.table({"x": np.zeros(900)}), pa.table({"x": np.ones(100)})
    rng = np.random.default_rng(0)
    before, after = capped(sampled(low, rng), sampled(high, rng))
    assert (before["x"].max(), after["x"].min()) == (0.0, 1.0)
