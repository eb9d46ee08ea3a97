"""The published split of the Gowalla check-ins, and how it is measured: full ranking, training items masked.

Recall@20 and NDCG@20 are worked out as LightGCN's evaluation does (He et al. 2020).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from benchmarks.harness import Figures
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray
from bespoke.models.base import Interactions
from bespoke.vocabulary import Vocabulary

FOLDER = Path(__file__).parents[2] / "shared/data/gowalla"
K = 20
PEOPLE_PER_BLOCK = 2048


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


def quality(split: Split, scores_of: Callable[[AnyArray], FloatArray], *, every: int = 1) -> Figures:
    """Return mean recall and NDCG of the best ``K`` unseen items, over each ``every``-th person with hidden ones.

    Args:
        split: what was seen, and what is to be found.
        scores_of: gives new scores [B, I] of people by their rows [B].
        every: which people are ranked for.
    """
    recalls, ndcgs = [], []
    discount_K = 1 / np.log2(np.arange(2, K + 2))
    ideal_K = np.cumsum(discount_K)
    for people_B, hit_BK in _hits(split, scores_of, every=every):
        hidden_B = np.diff(split.hidden_UI.indptr)[people_B]
        recalls.append(hit_BK.sum(axis=1) / hidden_B)
        ndcgs.append(hit_BK @ discount_K / ideal_K[np.minimum(hidden_B, K) - 1])
    return {f"recall@{K}": float(np.concatenate(recalls).mean()), f"ndcg@{K}": float(np.concatenate(ndcgs).mean())}


def _hits(
    split: Split, scores_of: Callable[[AnyArray], FloatArray], *, every: int
) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Give people block by block, and which of their best K items are hidden ones, best first."""
    people_U = np.flatnonzero(np.diff(split.hidden_UI.indptr))[::every]
    for start in range(0, len(people_U), PEOPLE_PER_BLOCK):
        people_B = people_U[start : start + PEOPLE_PER_BLOCK]
        scores_BI = scores_of(people_B)
        seen = split.seen_UI[people_B].tocoo()
        scores_BI[seen.coords] = -np.inf
        best_BK = np.argpartition(scores_BI, -K, axis=1)[:, -K:]
        order_BK = np.argsort(-np.take_along_axis(scores_BI, best_BK, axis=1), axis=1)
        best_BK = np.take_along_axis(best_BK, order_BK, axis=1)
        hidden_BI = np.zeros(scores_BI.shape, dtype=bool)
        hidden_BI[split.hidden_UI[people_B].tocoo().coords] = True
        yield people_B, np.take_along_axis(hidden_BI, best_BK, axis=1)


def by_products(user_UD: FloatArray, item_ID: FloatArray) -> Callable[[AnyArray], FloatArray]:
    """Return what scores by the products of two tables."""

    def scores_of(people_B: AnyArray) -> FloatArray:
        scores_BI: FloatArray = user_UD[people_B] @ item_ID.T
        return scores_BI

    return scores_of
