"""How als grows: generated interactions of one, three and ten million lines, d = 64, each size in its own process.

People and items are drawn from power laws, ten lines per person and a hundred per item on average, so a million people
at ten million lines. Seconds per epoch are the median of the epochs past the first, each with its loss; `slope` is that
of their logarithm over the logarithm of the lines, 1 where time grows as the lines do. `cpu_slope` is the same for CPU
time. `peak_memory_mb` is the most that the process held, with generating and numbering the ids; `build_s` is what
numbering took.
"""

import resource
import subprocess
import sys
import time

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import Epoch, Interactions

LINES = {"1m": 1_000_000, "3m": 3_000_000, "10m": 10_000_000}
LINES_PER_PERSON = 10
LINES_PER_ITEM = 100
CONFIG = AlsConfig(factors=64, epochs=4)
AT_MS = 100 * DAY_MS


def run() -> Figures:
    """Measure each size in a process of its own."""
    measured = {name: _in_own_process(lines) for name, lines in LINES.items()}
    log_lines = np.log(list(LINES.values()))
    figures = {
        "slope": float(np.polyfit(log_lines, np.log([one["seconds_per_epoch"] for one in measured.values()]), 1)[0]),
        "cpu_slope": float(np.polyfit(log_lines, np.log([one["cpu_per_epoch"] for one in measured.values()]), 1)[0]),
    }
    return figures | {f"{key}@{name}": value for name, one in measured.items() for key, value in one.items()}


def _in_own_process(lines: int) -> dict[str, float]:
    command = f"from benchmarks.als_scale import measure; measure({lines})"
    done = subprocess.run([sys.executable, "-c", command], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = orjson.loads(done.stdout)
    return figures


def measure(lines: int) -> None:
    """Build interactions, train, and print the figures as JSON."""
    started = time.perf_counter()
    interactions = _interactions(lines)
    build_s = time.perf_counter() - started
    wall, cpu = [time.perf_counter()], [time.process_time()]

    def told(epoch: Epoch) -> None:
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    Als.fit(interactions, config=CONFIG, at_ms=AT_MS, on_epoch=told)
    figures = {
        "seconds_per_epoch": float(np.median(np.diff(wall)[1:])),
        "cpu_per_epoch": float(np.median(np.diff(cpu)[1:])),
        "fit_s": time.perf_counter() - wall[0],
        "build_s": build_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(orjson.dumps(figures).decode())


def _interactions(lines: int) -> Interactions:
    random = np.random.default_rng(0)
    return Interactions.from_columns(
        _ids(lines // LINES_PER_PERSON, lines, power=2.0, random=random),
        _ids(lines // LINES_PER_ITEM, lines, power=3.0, random=random),
        random.integers(AT_MS - 60 * DAY_MS, AT_MS, lines),
        np.ones(lines, dtype=np.float32),
    )


def _ids(count: int, lines: int, *, power: float, random: np.random.Generator) -> pa.Array:
    """Draw ids of ``count`` things; how often one is drawn falls with its rank to the power of 1 / power - 1."""
    rank_N = (count * random.random(lines) ** power).astype(np.int32)
    return pa.array(rank_N).cast(pa.string())


if __name__ == "__main__":
    main("als_scale", run, runs=1, about=(__doc__ or "").strip())
