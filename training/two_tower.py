"""two_tower on Ray: the same training as :meth:`TwoTower.fit` in worker processes, going on where a killed one stood.

Ray Data brings the workers the numbers of their examples, in large blocks. The lines themselves are in Ray's object
store, once per machine. Workers learn from different examples and add up their gradients, so their tables stay equal.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
import ray.train.torch

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import TrainingError
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Interactions, Model
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_examples import Batch
from bespoke.models.two_tower_fit import Prepared, Rounds, prepare

FEED_ROWS = 1 << 18
"""Examples that come at once: 2 MiB of row numbers."""
HANG_S = 300.0
"""A step of all workers that takes longer than this counts as a failure."""
STATE, PROGRESS = "state.safetensors", "progress.json"

AfterStep = Callable[[int, int], None]
Block = tuple[RowArray, RowArray]
"""Person and block of many examples."""


@dataclass(frozen=True, slots=True)
class RayPlan:
    """How training runs on the cluster."""

    storage_path: Path
    """Where checkpoints go; every machine must reach it."""
    name: str = "two_tower"
    """A folder in it; training that stopped there goes on."""
    workers: int = 1
    cpus_per_worker: float = 0.5
    """What a worker claims: with all CPUs claimed, Ray Data would wait for one forever."""
    gpu: bool = False
    steps_per_checkpoint: int = 100
    max_failures: int = 3
    after_step: AfterStep | None = None
    """Called in the worker with each epoch and step that has ended."""


@dataclass(frozen=True, slots=True)
class _Task:
    """What every worker gets."""

    prepared: Prepared
    tables: Mapping[str, FloatArray]
    seed: int
    plan: RayPlan


@dataclass
class _Progress:
    """Where training stands: so many steps of an epoch, from 1, are done."""

    epoch: int = 1
    step: int = 0
    best_ndcg: float = -1.0
    worse: int = 0
    done: bool = False


def fit_on_ray(
    interactions: Interactions,
    *,
    config: TwoTowerConfig | None = None,
    at_ms: int,
    seed: int = 0,
    catalog: Catalog = EMPTY_CATALOG,
    start: Model | None = None,
    plan: RayPlan,
) -> TwoTower:
    """Train on the workers of a running Ray. With one worker it is the model that :meth:`TwoTower.fit` gives.

    Args:
        interactions: as for ``TwoTower.fit``, like the five arguments after it.
        config: the settings.
        at_ms: the cut.
        seed: equal seeds, data and numbers of workers give equal models.
        catalog: what was known of items at the cut.
        start: an als model or an earlier two_tower to begin from.
        plan: how many workers, and where their checkpoints go.

    Raises:
        TrainingError: there is nothing to learn from, or workers failed more often than the plan allows.
    """
    prepared = prepare(interactions, config=config or TwoTowerConfig(), at_ms=at_ms, seed=seed, catalog=catalog)
    task = _Task(prepared, prepared.tables(start, seed=seed), seed, plan)
    person_E, block_E = prepared.examples.table()
    trainer = ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"task": ray.put(task)},
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if plan.gpu else "gloo", timeout_s=int(HANG_S)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=plan.workers,
            use_gpu=plan.gpu,
            resources_per_worker={"CPU": plan.cpus_per_worker, **({"GPU": 1} if plan.gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=plan.name,
            storage_path=str(plan.storage_path.absolute()),
            failure_config=ray.train.FailureConfig(max_failures=plan.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
        datasets={"examples": ray.data.from_arrow(pa.table({"person": person_E, "block": block_E}))},
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"two_tower on Ray failed more than {plan.max_failures} times: {error}") from error
    if result.checkpoint is None:
        raise TrainingError(f"two_tower on Ray left no checkpoint in {plan.storage_path}")
    return prepared.model(_final_tables(result.checkpoint))


def _work(config: Mapping[str, Any]) -> None:
    """Train in one worker."""
    import torch

    from bespoke.models.two_tower_trainer import Trainer, threads_for

    task: _Task = ray.get(config["task"])
    workers = ray.train.get_context().get_world_size()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    device = "cuda" if task.plan.gpu else "cpu"
    prepared = task.prepared
    trainer = Trainer(
        task.tables, prepared.content, config=prepared.config, device=device, known_I=prepared.examples.known_I
    )
    run = _Run(task, trainer, workers)
    with threads_for(run.rounds.products):
        run.run()


class Feed:
    """The examples of a shard of Ray Data, epoch after epoch, in an order that does not depend on timing.

    Each block, the first of the next epoch too, is fetched while training goes over the one before it.
    """

    def __init__(self, shard: Any, *, epochs: int) -> None:
        self._fetched: Queue[Block | Exception | None] = Queue(maxsize=1)
        Thread(target=self._fetch, args=(shard, epochs), name="feed", daemon=True).start()

    def epoch(self) -> Iterator[Block]:
        """Yield person and block of the examples of the next epoch, many at once."""
        while (block := self._fetched.get()) is not None:
            if isinstance(block, Exception):
                raise block
            yield block

    def _fetch(self, shard: Any, epochs: int) -> None:
        try:
            for _ in range(epochs):
                for block in shard.iter_batches(batch_size=FEED_ROWS, batch_format="numpy"):
                    order_E = np.lexsort((block["block"], block["person"]))
                    self._fetched.put((block["person"][order_E], block["block"][order_E]))
                self._fetched.put(None)
        except Exception as error:  # raised anew where the examples are awaited
            self._fetched.put(error)


class _Run:
    """One worker's way through the epochs."""

    def __init__(self, task: _Task, trainer: Any, workers: int) -> None:
        self.task = task
        self.trainer = trainer
        self.workers = workers
        self.leads = ray.train.get_context().get_world_rank() == 0
        self.rounds = Rounds(task.prepared, task.seed)
        self.progress = _Progress()

    def run(self) -> None:
        """Go through all epochs, from the last checkpoint on if there is one."""
        self._resume()
        config, progress = self.task.prepared.config, self.progress
        feed = Feed(ray.train.get_dataset_shard("examples"), epochs=config.epochs - progress.epoch + 1)
        while not progress.done:
            self._epoch(feed)
            stop = self._agreed(self.rounds.judge(self.trainer.arrays) if self.leads else False)
            progress.epoch, progress.step = progress.epoch + 1, 0
            progress.best_ndcg, progress.worse = self.rounds.best_ndcg, self.rounds.worse
            progress.done = stop or progress.epoch > config.epochs
            self._checkpoint()

    def _epoch(self, feed: Feed) -> None:
        progress, plan = self.progress, self.task.plan
        for batch in self._batches(feed, skip=progress.step):
            rate = self.rounds.rate(progress.epoch, progress.step)
            gradients = self.trainer.gradients(batch)
            if self.workers > 1:
                gradients = combined(gradients, self.workers)
            self.trainer.apply(gradients, rate=rate)
            progress.step += 1
            if plan.after_step is not None:
                plan.after_step(progress.epoch, progress.step)
            if progress.step % plan.steps_per_checkpoint == 0:
                self._checkpoint()

    def _batches(self, feed: Feed, *, skip: int) -> Iterator[Batch]:
        """Yield this worker's steps of an epoch, without those that were done before it was killed."""
        cut = self.task.prepared.examples.epoch(seed=self.task.seed, epoch=self.progress.epoch)
        size = max(1, self.rounds.size // self.workers)
        for person_E, block_E in feed.epoch():
            steps = -(-len(person_E) // size)
            yield from cut.batches(person_E, block_E, size=size, skip=min(skip, steps))
            skip = max(0, skip - steps)

    def _agreed(self, stop: bool) -> bool:
        """Return what the first worker says; a worker whose tables differ from the others' ends the training."""
        if self.workers == 1:
            return stop
        import torch

        digest = sum(float(table.double().sum()) for table in self.trainer.tables.values())
        said = [torch.zeros(2, dtype=torch.float64) for _ in range(self.workers)]
        torch.distributed.all_gather(said, torch.tensor([float(stop), digest], dtype=torch.float64))
        if any(one[1] != said[0][1] for one in said):
            raise TrainingError("the workers' tables came apart; use machines of one kind for one training")
        return bool(said[0][0])

    def _checkpoint(self) -> None:
        """Hand the state to Ray Train; the first worker's counts, all wait for it."""
        metrics = {"epoch": self.progress.epoch, "step": self.progress.step, "ndcg": self.rounds.best_ndcg}
        if not self.leads:
            ray.train.report(metrics)
            return
        from safetensors.torch import save_file

        tensors = {name: tensor.cpu() for name, tensor in self.trainer.state().items()}
        with tempfile.TemporaryDirectory() as folder:
            save_file(tensors | self._best(), Path(folder) / STATE)
            (Path(folder) / PROGRESS).write_text(json.dumps(vars(self.progress)))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    def _best(self) -> dict[str, Any]:
        import torch

        best = self.rounds.best or {}
        return {f"best.{name}": torch.from_numpy(table) for name, table in best.items()}

    def _resume(self) -> None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        from safetensors.torch import load_file

        with checkpoint.as_directory() as folder:
            state = load_file(Path(folder) / STATE)
            self.progress = _Progress(**json.loads((Path(folder) / PROGRESS).read_text()))
        self.trainer.load_state(state)
        self.rounds.best = _under("best.", {name: tensor.numpy() for name, tensor in state.items()}) or None
        self.rounds.best_ndcg, self.rounds.worse = self.progress.best_ndcg, self.progress.worse


def combined(gradients: Any, workers: int) -> Any:
    """Return the mean of all workers' gradients, equal to the last bit for all of them."""
    import torch
    import torch.distributed as dist

    from bespoke.models.two_tower_trainer import Gradient, Gradients, summed

    loss = torch.tensor([gradients.loss])
    dist.all_reduce(loss)
    of = {}
    for name, gradient in gradients.of.items():
        value_RD = gradient.value_RD / workers
        if gradient.row_R is None:
            dist.all_reduce(value_RD)
            of[name] = Gradient(None, value_RD)
        else:
            of[name] = summed(_gathered(gradient.row_R, workers), _gathered(value_RD, workers))
    return Gradients(float(loss) / workers, of)


def _gathered(mine: Any, workers: int) -> Any:
    """Return the rows of all workers, one worker's after another's; each may have another number of them."""
    import torch
    import torch.distributed as dist

    counts = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(workers)]
    dist.all_gather(counts, torch.tensor([len(mine)], device=mine.device))
    longest = max(int(count) for count in counts)
    padded = mine.new_zeros((longest, *mine.shape[1:]))
    padded[: len(mine)] = mine
    everybody = [torch.empty_like(padded) for _ in range(workers)]
    dist.all_gather(everybody, padded)
    return torch.cat([rows[: int(count)] for rows, count in zip(everybody, counts, strict=True)])


def _final_tables(checkpoint: ray.train.Checkpoint) -> dict[str, FloatArray]:
    """Return the tables that training ends with: the best ones, or the last where nothing told which were best."""
    from safetensors.numpy import load_file

    with checkpoint.as_directory() as folder:
        state = load_file(Path(folder) / STATE)
    return _under("best.", state) or _under("table.", state)


def _under(prefix: str, state: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
