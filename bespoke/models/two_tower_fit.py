"""How two_tower trains: what it prepares, the rounds, and when to stop. Loads torch only where training begins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from bespoke.catalog import Catalog
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Interactions, Model
from bespoke.models.popularity import decayed_counts
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_content import content
from bespoke.models.two_tower_examples import Batch, Examples
from bespoke.models.two_tower_lines import Lines
from bespoke.models.two_tower_tables import Sizes, Tables, at_als, at_earlier, at_random, item_vectors, placed_again
from bespoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bespoke.models.two_tower import TwoTower

FEWEST_HELD_OUT = 20
"""With fewer people to hold lines out of, ranking them tells nothing: training runs to its end."""
MANY_REPEATS = 0.1
"""Share of the held-out lines whose item the person had before from which on repeats count."""
HELD_OUT_SHARE = 0.1
"""Of people, and of their lines."""
FEWEST_LINES = 5
LENGTH = 20


@dataclass(frozen=True)
class Prepared:
    """What training goes over, in arrays."""

    examples: Examples
    content: csr_array
    """Marks of every item [I, F]."""
    sizes: Sizes
    popularity_I: FloatArray
    held_out: "HeldOut | None"

    @property
    def config(self) -> TwoTowerConfig:
        """The settings."""
        return self.examples.config

    def model(self, tables: Tables) -> "TwoTower":
        """Return the model of these tables."""
        from bespoke.models.two_tower import TwoTower

        arrays = {
            **tables,
            "item_vectors": item_vectors(tables, self.content, self.examples.known_I),
            "popularity": self.popularity_I,
        }
        return TwoTower(arrays, users=self.sizes.users, vocabulary=self.sizes.items, config=self.config)

    def tables(self, start: Model | None, *, seed: int) -> dict[str, FloatArray]:
        """Return where training begins."""
        from bespoke.models.two_tower import TwoTower

        random = at_random(self.sizes, seed=seed)
        if isinstance(start, Als):
            everything = self.examples.everything()
            share_UI = everything.matrix(items=len(self.sizes.items), half_life_days=self.config.half_life_days)
            if self.held_out is not None and len(self.sizes.users):
                start = placed_again(start, self.sizes, self.held_out.person_B, self.held_out.lines)
            return at_als(random, self.sizes, start, share_UI)
        if isinstance(start, TwoTower):
            return at_earlier(random, self.sizes, start.sizes, start.arrays())
        return random


@dataclass(frozen=True)
class HeldOut:
    """People whose last lines training does not see."""

    person_B: RowArray
    lines: Lines
    target_B_K: npt.NDArray[np.int64]
    target_item_K: RowArray

    @cached_property
    def repeats(self) -> bool:
        """Whether people take things again: then what they took before competes with what they take next."""
        items = int(max(self.lines.item_L.max(initial=0), self.target_item_K.max(initial=0))) + 1
        before_L = self.lines.person_L.astype(np.int64) * items + self.lines.item_L
        held_K = self.target_B_K * items + self.target_item_K
        return bool(np.isin(held_K, before_L).mean() >= MANY_REPEATS)

    def ndcg(self, model: "TwoTower", *, chunk: int = 512) -> float:
        """Return how well the model ranks the held-out items; above those taken before only where many come again."""
        vector_BD, gains = model.place(self.lines, self.person_B), np.zeros(len(self.person_B))
        ideal_K = np.cumsum(1 / np.log2(np.arange(2, LENGTH + 2)))
        for start in range(0, len(vector_BD), chunk):
            row_B = np.arange(start, min(start + chunk, len(vector_BD)))
            score_BI = model.scores_of(vector_BD[row_B])
            wanted_BI = np.zeros(score_BI.shape, dtype=bool)
            mine_K = (self.target_B_K >= start) & (self.target_B_K < start + chunk)
            wanted_BI[self.target_B_K[mine_K] - start, self.target_item_K[mine_K]] = True
            before_L = (self.lines.person_L >= start) & (self.lines.person_L < start + chunk)
            person_L, item_L = self.lines.person_L[before_L] - start, self.lines.item_L[before_L]
            if not self.repeats:
                fresh_L = ~wanted_BI[person_L, item_L]
                score_BI[person_L[fresh_L], item_L[fresh_L]] = -np.inf
            length = min(LENGTH, score_BI.shape[1])
            best_BK = np.argpartition(-score_BI, length - 1, axis=1)[:, :length]
            order_BK = np.argsort(-np.take_along_axis(score_BI, best_BK, axis=1), axis=1, kind="stable")
            hit_BK = np.take_along_axis(wanted_BI, np.take_along_axis(best_BK, order_BK, axis=1), axis=1)
            gained_B = (hit_BK / np.log2(np.arange(2, length + 2))).sum(axis=1)
            gains[row_B] = gained_B / ideal_K[np.minimum(wanted_BI.sum(axis=1), length) - 1]
        return float(gains.mean())


def prepare(interactions: Interactions, *, config: TwoTowerConfig, at_ms: int, seed: int, catalog: Catalog) -> Prepared:
    """Bring interactions and catalog into the arrays that training goes over.

    Raises:
        TrainingError: there are no interactions.
    """
    counts_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
    items: Vocabulary[ItemId] = Vocabulary(sorted({*interactions.items.ids, *catalog}))
    item_I = items.rows(interactions.items.ids)
    popularity_I = np.zeros(len(items), dtype=np.float32)
    popularity_I[item_I] = counts_I
    marks_IF = content(items.ids, catalog, buckets=config.content_buckets)
    users: Vocabulary[UserId] = Vocabulary() if config.person_id_dropout == 1 else interactions.users
    sizes = Sizes(users, items, config.content_buckets if marks_IF.nnz else 0, config.factors)
    described_I = np.flatnonzero(np.diff(marks_IF.indptr)).astype(np.int32)
    examples = Examples.of(interactions, item_I, items=len(items), at_ms=at_ms, config=config, described_I=described_I)
    examples, held_out = hold_out(examples, seed=seed)
    return Prepared(examples, marks_IF, sizes, popularity_I, held_out)


def hold_out(examples: Examples, *, seed: int) -> tuple[Examples, HeldOut | None]:
    """Take the last lines of some people out of the examples; of none where there is too little."""
    eligible = np.flatnonzero(examples.count_U >= FEWEST_LINES)
    people = min(examples.config.validation_people, int(len(eligible) * HELD_OUT_SHARE))
    if people < FEWEST_HELD_OUT:
        return examples, None
    person_B = np.sort(np.random.default_rng([seed, 5]).choice(eligible, people, replace=False)).astype(np.int32)
    cut = examples.epoch(seed=seed, epoch=0)
    lines, target_B_K, line_K = cut.last(person_B, share=HELD_OUT_SHARE)
    held_out = HeldOut(person_B, lines, target_B_K, examples.item_N[line_K])
    return examples.without(line_K), held_out


@dataclass
class Rounds:
    """Where training stands, and which tables were best so far."""

    prepared: Prepared
    seed: int
    best: Tables | None = None
    best_ndcg: float = -1.0
    worse: int = 0
    """Epochs since the best."""

    @cached_property
    def table(self) -> tuple[RowArray, RowArray]:
        """Person and block of every example."""
        return self.prepared.examples.table()

    @cached_property
    def size(self) -> int:
        """Examples per step."""
        return self.prepared.examples.batch_people()

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-len(self.table[0]) // self.size)

    @property
    def products(self) -> int:
        """About how many multiplications a step takes."""
        return self.size * len(self.prepared.examples.rankable_I) * self.prepared.config.factors

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate of a step of an epoch, from 1: it falls to zero in a straight line."""
        config = self.prepared.config
        return config.learning_rate * (1 - ((epoch - 1) * self.steps + step) / (config.epochs * self.steps))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the steps of an epoch."""
        return self.prepared.examples.epoch(seed=self.seed, epoch=epoch).batches(*self.table, size=self.size)

    def model(self, tables: Tables) -> "TwoTower":
        """Return the model that training ends with here: the best so far, or the one of ``tables``."""
        return self.prepared.model(tables if self.best is None else self.best)

    def judge(self, tables: Callable[[], Tables]) -> bool:
        """Look at how training stands after an epoch; return whether it should stop."""
        if self.prepared.held_out is None:
            return False
        now = tables()
        ndcg = self.prepared.held_out.ndcg(self.prepared.model(now))
        if ndcg > self.best_ndcg:
            self.best, self.best_ndcg, self.worse = now, ndcg, 0
        else:
            self.worse += 1
        return self.worse >= self.prepared.config.patience
