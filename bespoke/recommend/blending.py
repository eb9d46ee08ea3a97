"""Candidates of several sources become one order. C candidates, S sources."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.retrieval import Retrieved
from bespoke.recommend.settings import Blend
from bespoke.recommend.trace import NO_RANK

RANK_OFFSET = 60.0
"""What is added to a rank before it is inverted, so that the first places do not decide alone."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one source names."""

    source: str
    weight: float
    found: Retrieved
    """In rows of the table, best first."""
    leads: bool = False
    """Whether it is the variant's model, whose order counts where the blend says so."""


@dataclass(frozen=True, slots=True)
class Blended:
    """Candidates in one order, best first."""

    sources: tuple[str, ...]
    row_C: RowArray
    score_C: FloatArray
    """In (0, 1]."""
    rank_CS: RowArray
    best_C: RowArray
    """Which source speaks most for each."""


def blend(drawn: Sequence[Drawn], how: Blend) -> Blended:
    """Put the candidates of all sources in one order.

    A fusion adds, over the sources that name an item, ``weight / (60 + rank)``, and divides by the highest sum. As the
    model ranks them means: what the leading source names keeps its order, with its scores stretched over [0.5, 1]; what
    only the others name follows below 0.5, by fusion.

    Source: Cormack, Clarke, Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods".
    """
    if not drawn:
        nothing = np.zeros(0, dtype=np.int32)
        return Blended((), nothing, np.zeros(0, dtype=np.float32), np.zeros((0, 0), dtype=np.int32), nothing)
    row_C, place_N = np.unique(np.concatenate([one.found.row_K for one in drawn]), return_inverse=True)
    rank_CS = np.full((len(row_C), len(drawn)), NO_RANK, dtype=np.int32)
    start = 0
    for number, one in enumerate(drawn):
        rank_CS[place_N[start : start + len(one.found.row_K)], number] = np.arange(len(one.found.row_K))
        start += len(one.found.row_K)
    weight_S = np.array([one.weight for one in drawn])
    share_CS = np.where(rank_CS == NO_RANK, 0.0, weight_S / (RANK_OFFSET + 1 + rank_CS))
    score_C = share_CS.sum(axis=1)
    score_C /= max(score_C.max(initial=0.0), np.finfo(np.float64).tiny)
    best_C = share_CS.argmax(axis=1).astype(np.int32)
    leads = next((number for number, one in enumerate(drawn) if one.leads), None)
    if how is Blend.MODEL and leads is not None:
        led_C = rank_CS[:, leads] != NO_RANK
        score_C = np.where(led_C, 0.0, 0.49 * score_C)
        score_C[led_C] = stretched(drawn[leads].found.score_K)[rank_CS[led_C, leads]]
        best_C[led_C] = leads
    # Of equal scores the one that its best source ranks higher comes first, then the smaller row.
    order_C = np.argsort(1e-12 * rank_CS[np.arange(len(row_C)), best_C] - score_C, kind="stable")
    return Blended(
        tuple(one.source for one in drawn),
        row_C[order_C].astype(np.int32),
        score_C[order_C].astype(np.float32),
        rank_CS[order_C],
        best_C[order_C],
    )


def stretched(score_K: FloatArray) -> FloatArray:
    """Return scores that fall from first to last as numbers from 1 down to 0.5.

    >>> stretched(np.array([9.0, 5.0, 1.0], dtype=np.float32)).tolist()
    [1.0, 0.75, 0.5]
    """
    if not len(score_K):
        return score_K
    spread = float(score_K[0] - score_K[-1])
    if not spread > 0:
        return np.ones_like(score_K)
    stretched_K: FloatArray = 0.5 + 0.5 * (score_K - score_K[-1]) / np.float32(spread)
    return stretched_K.astype(np.float32)
