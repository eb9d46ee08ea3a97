"""How well als ranks on the published split of the Gowalla check-ins: full ranking, training items masked.

Recall@20 and NDCG@20 are worked out as LightGCN's evaluation does. The settings were chosen on a part of the training
pairs, a random fifth of each person's; the number of epochs is chosen there within each run, and then everything is
trained on all training pairs. Nothing is taken from the test pairs. `seconds` is wall time of all of that but reading
the files.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from benchmarks.harness import Figures, main
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import AnyArray, Epoch, FloatArray, Interactions, Vocabulary

FOLDER = Path(__file__).parents[2] / "shared/data/gowalla"
K = 20
PEOPLE_PER_BLOCK = 2048
HELD_OUT_SHARE = 0.2
CONFIG = AlsConfig(
    factors=1024,
    epochs=10,
    alpha0=0.03,
    regularisation=0.1,
    nu=0.5,
    item_discount=0.35,
    user_discount=0.25,
    half_life_days=0,
)


@dataclass(frozen=True, slots=True)
class Split:
    """What to learn from and what to find, people by items; both sparse, each pair 1."""

    seen_UI: csr_array
    hidden_UI: csr_array

    def interactions(self) -> Interactions:
        """Return what to learn from; rows of people and items stay what they are."""
        users, items = self.seen_UI.shape
        pairs = self.seen_UI.tocoo()
        user_N, item_N = (axis.astype(np.int32) for axis in pairs.coords)
        return Interactions(
            Vocabulary(UserId(str(row)) for row in range(users)),
            Vocabulary(ItemId(str(row)) for row in range(items)),
            user_N,
            item_N,
            np.zeros(len(user_N), dtype=np.int64),
            np.ones(len(user_N), dtype=np.float32),
        )

    def held_out(self, *, share: float, seed: int) -> "Split":
        """Return a split of what is seen here: of each person's pairs, a random ``share`` is hidden."""
        pairs = self.seen_UI.tocoo()
        user_N, item_N = pairs.coords
        order_N = np.lexsort((np.random.default_rng(seed).random(len(user_N)), user_N))
        rank_N = np.empty(len(user_N))
        rank_N[order_N] = np.arange(len(user_N)) - np.repeat(self.seen_UI.indptr[:-1], np.diff(self.seen_UI.indptr))
        hidden_N = rank_N < np.floor(share * np.diff(self.seen_UI.indptr))[user_N]
        shape = self.seen_UI.shape
        return Split(
            _ones(user_N[~hidden_N], item_N[~hidden_N], shape), _ones(user_N[hidden_N], item_N[hidden_N], shape)
        )


def published_split() -> Split:
    """Read the published split.

    Raises:
        SystemExit: it is not on this machine.
    """
    if not (FOLDER / "train.parquet").exists():
        raise SystemExit(f"no Gowalla split in {FOLDER}; this benchmark needs train.parquet and test.parquet there")
    seen, hidden = (pq.read_table(FOLDER / f"{part}.parquet") for part in ("train", "test"))
    columns = [[table[name].to_numpy() for name in ("user_id", "item_id")] for table in (seen, hidden)]
    people, items = (int(max(one.max(), other.max())) + 1 for one, other in zip(*columns, strict=True))
    return Split(*(_ones(user_N, item_N, (people, items)) for user_N, item_N in columns))


def _ones(user_N: AnyArray, item_N: AnyArray, shape: tuple[int, int]) -> csr_array:
    one_N: FloatArray = np.ones(len(user_N), dtype=np.float32)
    pairs = csr_array((one_N, (user_N, item_N)), shape=shape)
    pairs.sum_duplicates()
    pairs.data[:] = 1.0
    return pairs


def quality(split: Split, user_UD: FloatArray, item_ID: FloatArray, *, every: int = 1) -> Figures:
    """Return mean recall and NDCG of the best ``K`` unseen items, over each ``every``-th person with hidden ones."""
    recalls, ndcgs = [], []
    discount_K = 1 / np.log2(np.arange(2, K + 2))
    ideal_K = np.cumsum(discount_K)
    for people_B, hit_BK in _hits(split, user_UD, item_ID, every=every):
        hidden_B = np.diff(split.hidden_UI.indptr)[people_B]
        recalls.append(hit_BK.sum(axis=1) / hidden_B)
        ndcgs.append(hit_BK @ discount_K / ideal_K[np.minimum(hidden_B, K) - 1])
    return {f"recall@{K}": float(np.concatenate(recalls).mean()), f"ndcg@{K}": float(np.concatenate(ndcgs).mean())}


def _hits(split: Split, user_UD: FloatArray, item_ID: FloatArray, *, every: int) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Give people block by block, and which of their best K items are hidden ones, best first."""
    people_U = np.flatnonzero(np.diff(split.hidden_UI.indptr))[::every]
    for start in range(0, len(people_U), PEOPLE_PER_BLOCK):
        people_B = people_U[start : start + PEOPLE_PER_BLOCK]
        scores_BI = user_UD[people_B] @ item_ID.T
        seen = split.seen_UI[people_B].tocoo()
        scores_BI[seen.coords] = -np.inf
        best_BK = np.argpartition(scores_BI, -K, axis=1)[:, -K:]
        order_BK = np.argsort(-np.take_along_axis(scores_BI, best_BK, axis=1), axis=1)
        best_BK = np.take_along_axis(best_BK, order_BK, axis=1)
        hidden_BI = np.zeros(scores_BI.shape, dtype=bool)
        hidden_BI[split.hidden_UI[people_B].tocoo().coords] = True
        yield people_B, np.take_along_axis(hidden_BI, best_BK, axis=1)


def best_epochs(split: Split, config: AlsConfig) -> int:
    """Return after how many epochs NDCG on the hidden pairs of a quarter of the people is highest; stop one past it."""
    reached: list[float] = []

    def told(epoch: Epoch) -> bool:
        arrays = epoch.model().arrays()
        reached.append(quality(split, arrays["user_factors"], arrays["item_factors"], every=4)[f"ndcg@{K}"])
        return reached[-1] < max(reached)

    Als.fit(split.interactions(), config=config, at_ms=1, on_epoch=told)
    return int(np.argmax(reached)) + 1


def run() -> Figures:
    """Choose the number of epochs, train and rank."""
    split = published_split()
    started = time.perf_counter()
    epochs = best_epochs(split.held_out(share=HELD_OUT_SHARE, seed=0), CONFIG)
    model = Als.fit(split.interactions(), config=CONFIG.model_copy(update={"epochs": epochs}), at_ms=1)
    figures = quality(split, model.user_UD, model.item_ID)
    return {**figures, "epochs": epochs, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main("als_quality", run, runs=1, about=(__doc__ or "").strip())
