"""How fast training examples reach a step of two_tower through Ray Data and Ray Train, beside the same loop in memory.

20,000 people with 40 lines each, 20,000 items, drawn by a seed. One worker of Ray Train goes through epochs in turn:
some whose examples come out of its shard of a Ray dataset, some whose examples lie in its memory; the steps are equal.
`samples_per_s` and `memory_samples_per_s` count predicted lines; `ratio` is the first to the second, the median of
three pairs of two epochs each, the first start of the feed included.
"""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import ray
import ray.data
import ray.train
import ray.train.torch

from benchmarks.harness import Figures, main
from bespoke.models.base import Interactions
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_fit import Prepared, Rounds, prepare
from runtime.ray_local import logical_cpus, quiet_ray
from training.two_tower import Block, Feed

PEOPLE, ITEMS, LINES = 20_000, 20_000, 40
CONFIG = TwoTowerConfig(full_softmax_items=0, negatives=2048, validation_people=0)
PAIRS, EPOCHS = 3, 2
AT_MS = 1_000_000_000


def run() -> Figures:
    """Measure ``PAIRS`` pairs of ``EPOCHS`` epochs in one worker."""
    quiet_ray()
    ray.init(num_cpus=logical_cpus(), include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _measured(folder)
    finally:
        ray.shutdown()


def _measured(folder: str) -> Figures:
    prepared = prepare(_drawn(), config=CONFIG, at_ms=AT_MS, seed=0, catalog={})
    person_E, block_E = prepared.examples.table()
    figures = Path(folder) / "figures.json"
    ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"prepared": ray.put(prepared), "figures": str(figures)},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.5}),
        run_config=ray.train.RunConfig(name="feed", storage_path=folder),
        datasets={"examples": ray.data.from_arrow(pa.table({"person": person_E, "block": block_E}))},
    ).fit()
    read: dict[str, float] = orjson.loads(figures.read_bytes())
    return read


def _work(config: Mapping[str, Any]) -> None:
    import torch

    from bespoke.models.two_tower_trainer import Trainer

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    prepared: Prepared = ray.get(config["prepared"])
    trainer = Trainer(prepared.tables(None, seed=0), prepared.content, config=CONFIG)
    shard, rounds = ray.train.get_dataset_shard("examples"), Rounds(prepared, 0)
    _samples_per_s(trainer, rounds, [iter([rounds.table])])  # the first epoch finds everything cold
    fed, in_memory = [], []
    for _ in range(PAIRS):
        feed = Feed(shard, epochs=EPOCHS)
        fed.append(_samples_per_s(trainer, rounds, [feed.epoch() for _ in range(EPOCHS)]))
        in_memory.append(_samples_per_s(trainer, rounds, [iter([rounds.table]) for _ in range(EPOCHS)]))
    ratio = float(np.median(np.array(fed) / np.array(in_memory)))
    figures = {"samples_per_s": np.median(fed), "memory_samples_per_s": np.median(in_memory), "ratio": ratio}
    # Ray Train hands metrics back with checkpoints alone, and this saves none.
    Path(config["figures"]).write_bytes(orjson.dumps({name: float(value) for name, value in figures.items()}))


def _samples_per_s(trainer: Any, rounds: Rounds, epochs: Sequence[Iterator[Block]]) -> float:
    """Train on the examples of some epochs as they come; return predicted lines per second."""
    started, lines = time.perf_counter(), 0
    cut = rounds.prepared.examples.epoch(seed=0, epoch=1)
    for person_E, block_E in chain.from_iterable(epochs):
        for batch in cut.batches(person_E, block_E, size=rounds.size):
            trainer.step(batch, rate=0.01)
            lines += len(batch.target_item_K)
    return lines / (time.perf_counter() - started)


def _drawn() -> Interactions:
    random = np.random.default_rng(0)
    user_N = np.repeat(np.arange(PEOPLE), LINES)
    item_N = (ITEMS * random.random(len(user_N)) ** 2).astype(np.int64)
    at_ms_N = random.integers(0, AT_MS, len(user_N))
    users, items = (pa.array(rows).cast(pa.string()) for rows in (user_N, item_N))
    return Interactions.from_columns(users, items, at_ms_N, np.ones(len(user_N)))


if __name__ == "__main__":
    main("two_tower_feed", run, runs=3, about=(__doc__ or "").strip())
