"""Drift alarms: how often they are false, and what they find.

drift_false: share of 200 pairs of windows in a row, of 5,000 rows and 20 columns without drift (normal, log-normal,
counts, categories), in which any column alarms; drift_suspected the share of single windows in which any column drifts.
drift_found: the smaller share of 200 found in two windows in a row, of a column shifted by .2 standard deviations and
of a category whose share moved by 5 points.
drift_seconds@1m, drift_memory_mb@1m: one report with Evidently's page, of a reference and a window of a million rows
and 20 columns each in Parquet, in a process of its own; memory is the largest that it had.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Figures, main

WINDOWS, ROWS, COLUMNS, LARGE = 200, 5_000, 20, 1_000_000
CATEGORIES = "abcde"
SHARES = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
MOVED = np.array([0.05, -0.05, 0.0, 0.0, 0.0])


def table(random: np.random.Generator, rows: int, *, shift: float = 0.0, moved: bool = False) -> pa.Table:
    """Return columns of four shapes; the first number may be shifted, the first mix moved."""
    columns = {}
    for n in range(COLUMNS // 4):
        columns[f"normal{n}"] = random.normal(shift if n == 0 else 0.0, 1.0, rows)
        columns[f"spent{n}"] = random.lognormal(0.0, 1.5, rows)
        columns[f"count{n}"] = random.poisson(0.3, rows).astype(np.float64)
        shares = SHARES + MOVED if moved and n == 0 else SHARES
        columns[f"mix{n}"] = random.choice(list(CATEGORIES), rows, p=shares)
    return pa.table(columns)


def rates(random: np.random.Generator) -> Figures:
    """Return false and true alarms."""
    from monitoring.drift import compare

    def drifted(reference: pa.Table, **changes: object) -> set[str]:
        now = table(random, ROWS, **changes)  # type: ignore[arg-type]
        return {column.column for column in compare(reference, now)[2] if column.drifted}

    false, suspected, found = 0, 0, {"normal0": 0, "mix0": 0}
    for _ in range(WINDOWS):
        reference = table(random, 2 * ROWS)
        first, second = drifted(reference), drifted(reference)
        suspected += bool(first)
        false += bool(first & second)
        one, again = (drifted(reference, shift=0.2, moved=True) for _ in range(2))
        for name in found:
            found[name] += name in one & again
    return {
        "drift_false": false / WINDOWS,
        "drift_suspected": suspected / WINDOWS,
        "drift_found": min(found.values()) / WINDOWS,
        "drift_found_shift": found["normal0"] / WINDOWS,
        "drift_found_mix": found["mix0"] / WINDOWS,
    }


def large(random: np.random.Generator) -> Figures:
    """Return what a report of a million rows takes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in ("before", "after"):
            pq.write_table(table(random, LARGE), folder / f"{side}.parquet")
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "benchmarks.drift", name], capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stderr)
        return {"drift_seconds@1m": seconds, "drift_memory_mb@1m": float(done.stdout.split()[-1])}


def report(folder: Path) -> None:
    """Write the report of a folder's two tables, and print the memory that it took."""
    from datetime import UTC, datetime

    from monitoring.drift import drift_report

    before, after = (pq.read_table(folder / f"{side}.parquet") for side in ("before", "after"))
    drift_report(before, after, subject="large", at=datetime.now(UTC), reports_dir=folder / "reports")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run(seed: int) -> Figures:
    """Measure once."""
    random = np.random.default_rng(seed)
    return {**rates(random), **large(random)}


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        report(Path(sys.argv[1]))
    else:
        seeds = iter(range(1, 1_000))
        main("drift", lambda: run(next(seeds)), about=(__doc__ or "").strip())
