"""Ranking metrics: ranked lists against the items that turned out to be relevant.

Relevance is binary. An item that no model could have ranked still counts as relevant, so a model pays for a small
vocabulary. The functions of one list are the definitions; those of many lists at once (U lists of K items, in rows of a
table of I items, -1 where a list is shorter) give the same values without a loop.

Source: Järvelin and Kekäläinen 2002 (nDCG); Castells, Hurley, Vargas 2015 (coverage, novelty, intra-list diversity);
Abdollahpouri, Burke, Mobasher 2019 (share of popular items).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import islice

import numpy as np
import numpy.typing as npt

from bespoke.events import ItemId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

Ranking = Sequence[ItemId]
Relevant = Set[ItemId]

LISTS_PER_BLOCK = 1024


def recall(ranked: Ranking, relevant: Relevant, *, k: int) -> float:
    """Return the share of the relevant items that are among the first ``k``.

    >>> recall(["a", "x", "b"], {"a", "b", "c", "d"}, k=3)
    0.5
    """
    return len(_hits(ranked, relevant, k)) / len(relevant) if relevant else 0.0


def ndcg(ranked: Ranking, relevant: Relevant, *, k: int) -> float:
    """Return the discounted gain of the first ``k`` over that of the best possible list of ``k``.

    >>> ndcg(["a", "b"], {"a", "b"}, k=2)
    1.0
    """
    gain = sum(_discount(rank) for rank in _hits(ranked, relevant, k))
    ideal = sum(_discount(rank) for rank in range(1, min(k, len(relevant)) + 1))
    return gain / ideal if ideal else 0.0


def mrr(ranked: Ranking, relevant: Relevant, *, k: int) -> float:
    """Return one over the rank of the first relevant item, 0 where it is past ``k``.

    >>> mrr(["x", "a"], {"a"}, k=2)
    0.5
    """
    hits = _hits(ranked, relevant, k)
    return 1.0 / hits[0] if hits else 0.0


def hit_rate(ranked: Ranking, relevant: Relevant, *, k: int) -> float:
    """Return 1 where any of the first ``k`` is relevant, else 0.

    >>> hit_rate(["x", "a"], {"a"}, k=1)
    0.0
    """
    return float(bool(_hits(ranked, relevant, k)))


def average_precision(ranked: Ranking, relevant: Relevant, *, k: int) -> float:
    """Return the mean precision at the ranks of relevant items, over the most hits that ``k`` allows.

    >>> average_precision(["a", "x", "b"], {"a", "b"}, k=3) == (1 / 1 + 2 / 3) / 2
    True
    """
    hits = _hits(ranked, relevant, k)
    most = min(k, len(relevant))
    return sum(count / rank for count, rank in enumerate(hits, start=1)) / most if most else 0.0


RANKING_METRICS: Mapping[str, Callable[..., float]] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "hit_rate": hit_rate,
    "map": average_precision,
}
"""The metrics of one ranking, by the name that manifests and reports use."""


def evaluate(ranked: Ranking, relevant: Relevant, *, ks: Sequence[int] = (20,)) -> dict[str, float]:
    """Return every metric of one ranking, keyed such as ``ndcg@20``.

    >>> evaluate(["a"], {"a"}, ks=(1,))["hit_rate@1"]
    1.0
    """
    return {f"{name}@{k}": metric(ranked, relevant, k=k) for k in ks for name, metric in RANKING_METRICS.items()}


def coverage(rankings: Iterable[Ranking], *, items: int, k: int) -> float:
    """Return the share of a catalog of ``items`` that some list shows among its first ``k``.

    >>> coverage([["a", "b"], ["a", "c"]], items=4, k=1)
    0.25
    """
    shown = {item for ranked in rankings for item in islice(ranked, k)}
    return len(shown) / items if items else 0.0


def novelty(rankings: Iterable[Ranking], *, popularity: Mapping[ItemId, float], k: int) -> float:
    """Return the mean surprise of the items shown: minus log2 of each item's share of all interactions, in bits.

    Items without interactions are as surprising as one with the smallest positive share.

    >>> novelty([["a"], ["b"]], popularity={"a": 1, "b": 1}, k=1)
    1.0
    """
    total = sum(popularity.values())
    least = min((count for count in popularity.values() if count > 0), default=0.0)
    if not least:
        return 0.0
    bits = [
        -np.log2(max(popularity.get(item, 0.0), least) / total) for ranked in rankings for item in islice(ranked, k)
    ]
    return float(np.mean(bits)) if bits else 0.0


def values_of_lists(hit_UK: Bools, relevant_U: AnyArray, *, ks: Sequence[int]) -> dict[str, Doubles]:
    """Return every ranking metric of many lists [U], keyed such as ``ndcg@20``.

    Args:
        hit_UK: whether the item at each rank is relevant.
        relevant_U: how many items are relevant for each list, positive.
        ks: lengths of the lists; past K nothing is found.

    >>> values_of_lists(np.array([[False, True]]), np.array([4]), ks=[2])["recall@2"].tolist()
    [0.25]
    """
    found = {k: _values_at(hit_UK[:, :k].astype(np.float64), relevant_U, k=k) for k in ks}
    return {f"{name}@{k}": values_U for k, values in found.items() for name, values_U in values.items()}


def _values_at(hit_UK: Doubles, relevant_U: AnyArray, *, k: int) -> dict[str, Doubles]:
    rank_K = np.arange(1, hit_UK.shape[1] + 1)
    ideal_K = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    hits_U, most_U = hit_UK.sum(axis=1), np.minimum(relevant_U, k)
    precision_UK = np.cumsum(hit_UK, axis=1) / rank_K
    return {
        "recall": hits_U / relevant_U,
        "ndcg": hit_UK @ (1.0 / np.log2(rank_K + 1)) / ideal_K[most_U - 1],
        "mrr": (hit_UK / rank_K).max(axis=1, initial=0.0),
        "hit_rate": (hits_U > 0).astype(np.float64),
        "map": (precision_UK * hit_UK).sum(axis=1) / most_U,
    }


def coverage_of_lists(ranked_UK: RowArray, *, items: int) -> float:
    """Return the share of ``items`` that some list shows."""
    return len(np.unique(ranked_UK[ranked_UK >= 0])) / items if items else 0.0


def novelty_of_lists(ranked_UK: RowArray, *, count_I: AnyArray) -> float:
    """Return the mean surprise of the items shown, in bits; see :func:`novelty`."""
    positive = count_I[count_I > 0]
    shown = ranked_UK[ranked_UK >= 0]
    if not len(positive) or not len(shown):
        return 0.0
    return float(np.log2(count_I.sum() / np.maximum(count_I[shown], positive.min())).mean())


def popular_share_of_lists(ranked_UK: RowArray, *, popular_I: Bools) -> float:
    """Return the share of the items shown that are ``popular_I``."""
    shown = ranked_UK[ranked_UK >= 0]
    return float(popular_I[shown].mean()) if len(shown) else 0.0


def diversity_of_lists(ranked_UK: RowArray, *, vector_ID: FloatArray) -> float:
    """Return the mean over lists of one minus the mean cosine of two different items of the list.

    Args:
        ranked_UK: lists; those of fewer than two items have no pairs and are left out.
        vector_ID: a vector of length one for each item; items with a zero vector resemble nothing.

    >>> diversity_of_lists(np.array([[0, 1]]), vector_ID=np.eye(2, dtype=np.float32))
    1.0
    """
    kept_UK = ranked_UK[(ranked_UK >= 0).sum(axis=1) > 1]
    if not len(kept_UK):
        return 0.0
    length_I = np.square(vector_ID).sum(axis=1, dtype=np.float64)
    total = 0.0
    for start in range(0, len(kept_UK), LISTS_PER_BLOCK):
        block_BK = kept_UK[start : start + LISTS_PER_BLOCK]
        shown_BK = block_BK >= 0
        summed_BD = (vector_ID[block_BK] * shown_BK[..., None]).sum(axis=1, dtype=np.float64)
        # |sum of vectors|^2 is the sum over all ordered pairs, each item with itself included.
        pairs_B = np.square(summed_BD).sum(axis=1) - (length_I[block_BK] * shown_BK).sum(axis=1)
        size_B = shown_BK.sum(axis=1)
        total += float((1.0 - pairs_B / (size_B * (size_B - 1))).sum())
    return max(0.0, total / len(kept_UK))


def _hits(ranked: Ranking, relevant: Relevant, k: int) -> list[int]:
    """Return the ranks, from 1, at which the first ``k`` are relevant."""
    return [rank for rank, item in enumerate(islice(ranked, k), start=1) if item in relevant]


def _discount(rank: int) -> float:
    return float(1.0 / np.log2(rank + 1))
