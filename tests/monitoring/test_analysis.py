"""Anybody's file: added up by unit, with clear words where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from bespoke.errors import ConfigError
from monitoring.analysis import Analysis, analyze

ASKED: dict[str, Any] = {"variant": "group", "control": "A", "metrics": ["spent"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Rows of 2,000 customers; those of B come more often, and what was before is repeated on each row."""
    random = np.random.default_rng(0)
    group_C = random.integers(2, size=2_000)
    rows_C = random.integers(1, np.where(group_C == 1, 6, 4))
    customer = np.repeat(np.arange(2_000), rows_C)
    before_C = random.gamma(2, 5, 2_000)
    table = {
        "customer": customer,
        "group": np.array(["A", "B"])[group_C[customer]],
        "spent": before_C[customer] * 0.1 + random.gamma(2, 1, len(customer)),
        "before": before_C[customer],
    }
    path = tmp_path / "rows.csv"
    pa_csv.write_csv(pa.table(table), path)
    return path


def change(found: Analysis) -> float:
    relative = found.readout.metrics[0].comparisons[0].relative
    assert relative is not None
    return relative.estimate


def test_rows_of_a_unit_are_added_up_and_what_was_before_stands_once(path: Path) -> None:
    plain = analyze(path, **ASKED, unit="customer")
    adjusted = analyze(path, **ASKED, unit="customer", covariate="before")
    assert sum(plain.readout.units.values()) == 2_000
    assert change(plain) == pytest.approx(0.5, abs=0.1)
    assert change(adjusted) == pytest.approx(change(plain), abs=0.1)
    left = adjusted.readout.metrics[0].comparisons[0].variance_left
    assert left is not None and left < 1


def test_units_in_several_variants_and_rows_without_a_value_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("customer,group,spent\n1,A,1\n2,A,2\n3,B,1\n4,B,3\n5,A,1\n5,B,1\n6,A,\n7,,1\n")
    found = analyze(path, **ASKED, unit="customer")
    assert (found.rows, found.left_out, found.crossed) == (8, 2, 1)
    assert found.readout.units == {"A": 2, "B": 2}


@pytest.mark.parametrize(
    ("text", "changes", "told"),
    [
        ("group,spent\n", {}, "no rows"),
        ("group,spent,spent\nA,1,2\n", {}, "two columns are called 'spent'"),
        ("group,spent\nA,1\nA,2\n", {}, "expected 2 to 20"),
        ("group,spent\nA,much\nB,1\n", {}, "got 'much'"),
        ("group,spent\nA,1\nB,2\n", {"control": "C"}, "no variant 'C'"),
        ("group,spent\nA,1\nB,2\n", {"metrics": ["cost"]}, "no such column"),
        ("group,spent\nA,1\nB,2\n", {"metrics": ["spent:mode"]}, "got kind 'mode'"),
        ("group,spent\nA,1\nB,2\n", {"shares": {"A": 1.0}}, "on one side only"),
        ("group,spent\nA,1\nB,2\n", {"shares": {"A": 0.0, "B": 0.0}}, "some above"),
        ("id,group,spent,pre\n1,A,1,1\n1,A,1,2\n2,B,1,1\n", {"unit": "id", "covariate": "pre"}, "differs between"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, changes: dict[str, Any], told: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        analyze(path, **{**ASKED, **changes})
