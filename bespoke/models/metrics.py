"""Ranking metrics: one ranked list against the set of items that turned out to be relevant.

Relevance is binary. An item that no model could have ranked still counts as relevant, so a model pays for a small
vocabulary. Source: Järvelin and Kekäläinen 2002 (nDCG); Castells, Hurley, Vargas 2015 (coverage, novelty).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import islice

import numpy as np

from bespoke.events import ItemId

Ranking = Sequence[ItemId]
Relevant = Set[ItemId]


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


def _hits(ranked: Ranking, relevant: Relevant, k: int) -> list[int]:
    """Return the ranks, from 1, at which the first ``k`` are relevant."""
    return [rank for rank, item in enumerate(islice(ranked, k), start=1) if item in relevant]


def _discount(rank: int) -> float:
    return float(1.0 / np.log2(rank + 1))
