"""Drift reports say what an independent computation says, and what they cannot say."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from bespoke.statistics.drift import CATEGORY_FLOOR, NUMBER_FLOOR, category_distance, number_distance
from monitoring.drift import MAX_ROWS, DriftSummary, compare, drift_report, sampled
from monitoring.evidently_report import evidently_snapshot

Values = npt.NDArray[np.float64] | npt.NDArray[np.str_]

AT = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
ROWS = 2_000


def kolmogorov(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The largest gap between two distribution functions."""
    at = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(side), at, side="right") / len(side) for side in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def some_missing(values: npt.NDArray[np.float64], share: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.where(rng.random(len(values)) < share, np.nan, values)


def mixed(rng: np.random.Generator, *, of_a: float = 0.3) -> npt.NDArray[np.str_]:
    return rng.choice(["a", "b", "c"], ROWS, p=[of_a, 0.4, 0.6 - of_a])


def columns(rng: np.random.Generator) -> dict[str, tuple[Values, Values]]:
    """Pairs of samples, the reference first, of which it is known whether they drifted."""
    n = ROWS
    still: dict[str, tuple[Values, Values]] = {
        "normal": (rng.normal(size=n), rng.normal(size=n)),
        "spenders": (rng.lognormal(sigma=1.5, size=n), rng.lognormal(sigma=1.5, size=n)),
        "mostly_zero": (rng.poisson(0.2, n).astype(float), rng.poisson(0.2, n).astype(float)),
        "missing": (some_missing(rng.normal(size=n), 0.3, rng), some_missing(rng.normal(size=n), 0.3, rng)),
        "constant": (np.zeros(n), np.zeros(n)),
        "infinite": (np.append(rng.normal(size=n - 1), np.inf), rng.normal(size=n)),
        "mix": (mixed(rng), mixed(rng)),
    }
    moved: dict[str, tuple[Values, Values]] = {
        "moved_shifted": (rng.normal(size=n), rng.normal(0.3, size=n)),
        "moved_wider": (rng.normal(size=n), rng.normal(scale=2.0, size=n)),
        "moved_rare": ((rng.random(n) < 0.01).astype(float), (rng.random(n) < 0.1).astype(float)),
        "moved_from_constant": (np.full(n, 3.0), np.full(n, 4.0)),
        "moved_missing": (rng.normal(size=n), some_missing(rng.normal(size=n), 0.3, rng)),
        "moved_gone": (rng.normal(size=n), np.full(n, np.nan)),
        "moved_mix": (mixed(rng), mixed(rng, of_a=0.4)),
        "moved_new": (mixed(rng), np.where(rng.random(n) < 0.1, "new", mixed(rng))),
    }
    return {**still, **moved, "empty": (np.full(n, np.nan), np.full(n, np.nan))}


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[Values, Values]]:
    return columns(np.random.default_rng(3))


def tables(pairs: dict[str, tuple[Values, Values]]) -> tuple[pa.Table, pa.Table]:
    before, after = (pa.table({name: pair[side] for name, pair in pairs.items()}) for side in (0, 1))
    return before, after


@pytest.fixture(scope="module")
def summary(pairs: dict[str, tuple[Values, Values]], tmp_path_factory: pytest.TempPathFactory) -> DriftSummary:
    reports_dir = tmp_path_factory.mktemp("home") / "reports"
    return drift_report(
        *tables(pairs), subject="features of als@1", at=AT, reports_dir=reports_dir, drifted_before=["moved_mix", "mix"]
    )


def test_what_moved_is_reported_and_what_did_not_is_not(summary: DriftSummary) -> None:
    assert summary.drifted == tuple(column.column for column in summary.columns if column.column.startswith("moved_"))


def test_an_alarm_takes_two_windows(summary: DriftSummary) -> None:
    assert summary.alarms == ("moved_mix",)


def test_every_score_equals_an_independent_computation(
    summary: DriftSummary, pairs: dict[str, tuple[Values, Values]]
) -> None:
    scored = {column.column: column.score for column in summary.columns if column.score is not None}
    assert scored.keys() == pairs.keys() - {"moved_gone", "empty"}
    for name, score in scored.items():
        before, after = pairs[name]
        if before.dtype.kind == "f":
            kept = [np.asarray(side[np.isfinite(side)], np.float64) for side in (before, after)]
            assert score == pytest.approx(kolmogorov(*kept), abs=1e-12)
        else:
            shares = [{c: np.mean(side == c) for c in ("a", "b", "c", "new")} for side in (before, after)]
            assert score == pytest.approx(sum(abs(shares[0][c] - shares[1][c]) for c in shares[0]) / 2, abs=1e-12)


def test_evidently_says_what_we_say(pairs: dict[str, tuple[Values, Values]]) -> None:
    before, after, found = compare(*tables(pairs))
    scored = {column.column: column for column in found if column.score is not None}
    snapshot = evidently_snapshot(before[list(scored)], after[list(scored)], subject="x", at=AT)
    metrics = [(metric["config"], metric["value"]) for metric in snapshot.dict()["metrics"]]
    theirs = {config["column"]: value for config, value in metrics if config["type"].endswith(":ValueDrift")}
    assert theirs == pytest.approx({name: column.score for name, column in scored.items()}, abs=1e-12)


def test_what_cannot_be_compared_is_said(summary: DriftSummary) -> None:
    note_of = {column.column: column.note for column in summary.columns}
    assert note_of["empty"] == "not compared: 0 values on a side, at least 100 are needed"
    assert note_of["moved_gone"].endswith("the share of missing values moved")
    assert note_of["normal"] == ""


def test_missing_values_are_counted(summary: DriftSummary, pairs: dict[str, tuple[Values, Values]]) -> None:
    for column in summary.columns:
        before, after = pairs[column.column]
        if before.dtype.kind == "f":
            assert column.missing_reference == pytest.approx(np.mean(~np.isfinite(before)))
            assert column.missing_now == pytest.approx(np.mean(~np.isfinite(after)))


def test_the_page_and_the_workspace_hold_the_report(summary: DriftSummary) -> None:
    from evidently.ui.workspace import Workspace

    assert summary.html.name == "drift-features-of-als@1-20260301T063000Z.html"
    assert "moved_shifted" in summary.html.read_text()
    workspace = Workspace(str(summary.html.parent / "workspace"))
    (project,) = workspace.search_project("Drift")
    (run,) = workspace.list_runs(project.id)
    assert workspace.get_run(project.id, run).timestamp == AT


def test_a_second_report_joins_the_first_in_one_project(summary: DriftSummary) -> None:
    from evidently.ui.workspace import Workspace

    few = pa.table({"orders": np.arange(10.0)})
    again = drift_report(few, few.slice(0, 0), subject="als@2", at=AT, reports_dir=summary.html.parent)
    assert [(column.score, column.drifted) for column in again.columns] == [(None, True)]
    assert (again.reference_rows, again.rows_now) == (10, 0)
    workspace = Workspace(str(summary.html.parent / "workspace"))
    (project,) = workspace.search_project("Drift")
    assert len(workspace.list_runs(project.id)) == 2


def test_large_tables_are_sampled_the_same_way_each_time() -> None:
    table = pa.table({"x": np.arange(3.0 * MAX_ROWS)})
    one, again = (sampled(table, MAX_ROWS, np.random.default_rng(7)) for _ in range(2))
    assert len(one) == MAX_ROWS
    assert one.equals(again)
    assert one["x"].is_unique


@pytest.mark.parametrize("rows", [100, 1_000, 5_000])
def test_without_drift_few_columns_alarm_at_any_size(rows: int) -> None:
    rng = np.random.default_rng(11)
    shapes = (rng.normal, rng.lognormal, lambda size: np.asarray(rng.poisson(0.2, size), float))
    numbers = sum(number_distance(draw(size=rows), draw(size=rows)).drifted for draw in shapes for _ in range(100))
    mixes = sum(category_distance(*(rng.choice(list("abcd"), rows) for _ in range(2))).drifted for _ in range(300))
    assert numbers <= 4
    assert mixes <= 4


def test_what_is_beyond_chance_and_does_not_matter_is_no_drift() -> None:
    rng = np.random.default_rng(12)
    small = number_distance(rng.normal(size=200_000), rng.normal(0.05, size=200_000))
    assert small.p_value < 1e-6 and small.score < NUMBER_FLOOR and not small.drifted
    shares = category_distance(rng.random(200_000) < 0.50, rng.random(200_000) < 0.52)
    assert shares.p_value < 1e-6 and shares.score < CATEGORY_FLOOR and not shares.drifted


def test_rare_categories_are_taken_together_and_make_no_alarm() -> None:
    rng = np.random.default_rng(13)
    one, other = (np.minimum(np.asarray(rng.zipf(1.5, 500)), 10_000).astype(str) for _ in range(2))
    assert not category_distance(one, other).drifted
