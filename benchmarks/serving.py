"""Serving measured as a whole: the full pipeline on The Complete Journey, on this machine, load generator included.

Everything runs as `bespoke up` runs it, in a process of its own: six models, fusion of seven sources, diversification,
ten rules of which three hold, exploration, a running experiment with stored assignments, profiles in SQLite, HAProxy.
People are drawn from all households. ``--only latency,swap`` picks parts, ``--scale 0.1`` makes them shorter for a try.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures, arguments, repeat
from benchmarks.serving_home import default_home, prepared
from benchmarks.serving_kills import kills
from benchmarks.serving_outages import outages
from benchmarks.serving_overload import overload
from benchmarks.serving_site import push
from benchmarks.serving_speed import Pace, latency, throughput
from benchmarks.serving_swaps import bad_bundles, swaps

Part = Callable[[Path, Pace], Figures]


def topk(_: Path, __: Pace) -> Figures:
    """Measure the search for the best of many items, and the memory that two replicas share."""
    from benchmarks.topk import run

    return run()


PARTS: Mapping[str, Part] = {
    "latency": latency,
    "throughput": throughput,
    "topk": topk,
    "swap": swaps,
    "kill": kills,
    "bad": bad_bundles,
    "overload": overload,
    "outages": outages,
}


def matrix_product_float32_ms() -> float:
    """Return how long one product of two 1000 x 1000 float32 matrices takes: the median of nine."""
    import time

    left = np.random.default_rng(0).normal(size=(1000, 1000)).astype(np.float32)
    times = []
    for _ in range(9):
        started = time.perf_counter()
        left @ left
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1_000


def run(home: Path, parts: list[str], pace: Pace) -> Figures:
    """Measure some parts once."""
    found: dict[str, float] = {"matrix_product_float32_ms": matrix_product_float32_ms()}
    for part in parts:
        figures = PARTS[part](home, pace)
        print(f"  {part}: {', '.join(f'{key} {value:,.4g}' for key, value in figures.items())}", flush=True)
        found |= figures
    return found


def main() -> None:
    """Prepare the installation where it is not yet, then measure."""
    parser = arguments("serving")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, by comma: {', '.join(PARTS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="how long everything goes on; 1 as published")
    parser.add_argument("--replicas", type=int, default=1, help="of the recommender; the part kill has two of its own")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    home = default_home()
    prepared(home)
    push(home)
    about = (
        f"{(__doc__ or '').strip()} Parts: {', '.join(parts)}; scale {options.scale:g}, replicas {options.replicas}."
    )
    # What was measured in part never takes the place of the whole table.
    name = "_".join(["serving", *(parts if len(parts) < len(PARTS) else ())])
    repeat(name, lambda: run(home, parts, Pace(options.scale, options.replicas)), options=options, about=about)


if __name__ == "__main__":
    main()
