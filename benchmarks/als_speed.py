"""Seconds of CPU per epoch of als against implicit's and irspack's, on the Gowalla split, with two threads.

One epoch of each in turn, so that all see the same machine; a figure is the median over the epochs past the first. Each
runs with its own defaults for the solver and the settings that suit it; ours has irspack's settings, so that the
quality is the same. `ndcg` is NDCG@20 on the test pairs of a quarter of the people, after the last epoch;
`ratio_to_fastest` is our CPU seconds per epoch over those of the faster rival. `first_epoch_s` is the wall time of our
first epoch, with loading or, on a fresh machine, compiling the kernel.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numba
import numpy as np
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from benchmarks.gowalla import K, Split, by_products, published_split, quality
from benchmarks.harness import Figures, main
from bespoke.models.als import AlsConfig, starting_tables
from bespoke.models.als_epochs import both_sides, half_epoch, products
from bespoke.models.arrays import FloatArray

THREADS = 2
FACTORS = (64, 128, 256)
EPOCHS = {"als": 4, "irspack": 4, "implicit": 8}
CONFIG = AlsConfig(alpha0=0.03, regularisation=0.003, nu=1.0, half_life_days=0)

Tables = tuple[FloatArray, FloatArray]


class Ours:
    """als, as its ``fit`` runs it."""

    def __init__(self, split: Split, factors: int) -> None:
        self.config = CONFIG.model_copy(update={"factors": factors})
        self.users, self.items = both_sides(split.seen_UI, config=self.config)
        self.tables = starting_tables(split.interactions(), config=self.config, seed=0)
        self.product_N = products(self.users, *self.tables)

    def epoch(self) -> None:
        """Run one epoch."""
        solved = partial(half_epoch, config=self.config, product_N=self.product_N)
        user_UD, item_ID = solved(self.users, *self.tables)
        item_ID, user_UD = solved(self.items, item_ID, user_UD)
        self.tables = user_UD, item_ID


class Irspack:
    """irspack's iALS: conjugate gradient of three steps, its default."""

    def __init__(self, split: Split, factors: int) -> None:
        from irspack.recommenders._ials_core import LossType, SolverType
        from irspack.recommenders.ials import IALSTrainer

        self.trainer = IALSTrainer(
            csr_matrix(split.seen_UI),
            n_components=factors,
            alpha0=CONFIG.alpha0,
            reg=CONFIG.regularisation,
            nu=CONFIG.nu,
            init_std=CONFIG.initial_scale,
            solver_type=SolverType.CG,
            max_cg_steps=3,
            ialspp_subspace_dimension=64,
            loss_type=LossType.IALSPP,
            random_seed=42,
            n_threads=THREADS,
            prediction_time_max_cg_steps=5,
            prediction_time_ialspp_iteration=7,
        )

    def epoch(self) -> None:
        """Run one epoch."""
        self.trainer.run_epoch()

    @property
    def tables(self) -> Tables:
        """The factors of people and items."""
        return self.trainer.core_trainer.user, self.trainer.core_trainer.item


class Implicit:
    """implicit's ALS: conjugate gradient of three steps, its default, and the loop of its ``fit``."""

    def __init__(self, split: Split, factors: int) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        self.model = AlternatingLeastSquares(factors=factors, iterations=0, num_threads=THREADS, random_state=0)
        self.weight_UI = csr_matrix(split.seen_UI * np.float32(10.0))
        self.weight_IU = self.weight_UI.T.tocsr()
        self.model.fit(self.weight_UI, show_progress=False)

    def epoch(self) -> None:
        """Run one epoch."""
        solve = partial(self.model.solver, num_threads=THREADS)
        user_UD, item_ID = self.tables
        solve(self.weight_UI, user_UD, item_ID, self.model.regularization)
        solve(self.weight_IU, item_ID, user_UD, self.model.regularization)

    @property
    def tables(self) -> Tables:
        """The factors of people and items."""
        return self.model.user_factors, self.model.item_factors


CONTENDERS: dict[str, Callable[[Split, int], Any]] = {"als": Ours, "irspack": Irspack, "implicit": Implicit}


def run() -> Figures:
    """Race the three at each number of factors."""
    split = published_split()
    figures: dict[str, float] = {}
    with _threads():
        for factors in FACTORS:
            figures |= _race(split, factors)
    return figures


def _race(split: Split, factors: int) -> Figures:
    contenders = {name: make(split, factors) for name, make in CONTENDERS.items()}
    cpu_s: dict[str, list[float]] = {name: [] for name in contenders}
    wall_s: dict[str, list[float]] = {name: [] for name in contenders}
    for epoch in range(max(EPOCHS.values())):
        for name, contender in contenders.items():
            if epoch < EPOCHS[name]:
                cpu, wall = time.process_time(), time.perf_counter()
                contender.epoch()
                cpu_s[name].append(time.process_time() - cpu)
                wall_s[name].append(time.perf_counter() - wall)
    median_s = {name: float(np.median(times[1:])) for name, times in cpu_s.items()}
    figures = {f"ratio_to_fastest@{factors}": median_s["als"] / min(median_s["irspack"], median_s["implicit"])}
    for name, contender in contenders.items():
        figures[f"{name}_cpu_s@{factors}"] = median_s[name]
        figures[f"{name}_wall_s@{factors}"] = float(np.median(wall_s[name][1:]))
        figures[f"{name}_ndcg@{factors}"] = quality(split, by_products(*contender.tables), every=4)[f"ndcg@{K}"]
        figures[f"{name}_epochs@{factors}"] = EPOCHS[name]
    return figures | {f"first_epoch_s@{factors}": wall_s["als"][0]}


@contextmanager
def _threads() -> Iterator[None]:
    """Hold everybody to ``THREADS``; irspack and implicit are told by their own arguments too."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(THREADS, before))
    try:
        with threadpool_limits(THREADS):
            yield
    finally:
        numba.set_num_threads(before)


if __name__ == "__main__":
    main("als_speed", run, runs=3, about=(__doc__ or "").strip())
