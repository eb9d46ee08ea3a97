"""What every benchmark shares: the machine, the runs, the last line as JSON, results on file."""

import argparse
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import psutil

RESULTS = Path(__file__).parent / "results"

Figures = Mapping[str, float]


def main(name: str, run: Callable[[], Figures], *, runs: int = 3, about: str = "") -> None:
    """Run a benchmark ``runs`` times and print each figure over all; ``--json`` prints an object as the last line.

    Args:
        name: the module's name.
        run: measures once.
        runs: how often, unless ``--runs`` says otherwise.
        about: what a reader of the results must know: data, sizes, what was left out.
    """
    repeat(name, run, options=arguments(name, runs=runs).parse_args(), about=about)


def arguments(name: str, *, runs: int = 3) -> argparse.ArgumentParser:
    """Return what every benchmark can be told, for those that can be told more."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--save", action="store_true", help="write the result into benchmarks/results/")
    parser.add_argument("--runs", type=int, default=runs)
    return parser


def repeat(name: str, run: Callable[[], Figures], *, options: argparse.Namespace, about: str = "") -> None:
    """Do what :func:`main` does, as parsed ``options`` say."""
    each = []
    for number in range(1, options.runs + 1):
        each.append(run())
        shown = ", ".join(f"{key} {value:,.4g}" for key, value in each[-1].items())
        print(f"{name} run {number}/{options.runs}: {shown}", flush=True)
    result = {
        "benchmark": name,
        "machine": machine(),
        "runs": options.runs,
        "figures": {key: _overall(key, [figures[key] for figures in each]) for key in each[0]},
    }
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
        kept = {**result, "about": about, "each_run": each}
        readable = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        path.write_bytes(orjson.dumps(kept, option=readable | orjson.OPT_SERIALIZE_NUMPY))
    if options.json:
        print(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY).decode(), flush=True)


def _overall(name: str, values: Sequence[float]) -> float:
    """Return the median; of a share, which has to hold in every run, the smallest."""
    return min(values) if name.endswith("_share") else statistics.median(values)


def machine() -> dict[str, object]:
    """Return what the figures were measured on, with a probe that tells fast machines from slow ones."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "matrix_product_ms": round(matrix_product_ms(), 1),
    }


def matrix_product_ms() -> float:
    """Return how long one product of two 1000 x 1000 float64 matrices takes: the median of nine."""
    import time

    left = np.random.default_rng(0).normal(size=(1000, 1000))
    times = []
    for _ in range(9):
        started = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
