"""Candidates of several sources become one order. C candidates, S sources."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.index import EMPTY, NOTHING
from bespoke.models.retrieval import Retrieved
from bespoke.recommend.settings import Blend
from bespoke.recommend.trace import NO_RANK

RANK_OFFSET = 60.0
"""What is added to a rank before it is inverted, so that the first places do not decide alone."""
NO_SOURCE = -1


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
        return Blended((), EMPTY, NOTHING, np.zeros((0, 0), dtype=np.int32), EMPTY)
    from bespoke.recommend.kernels import fused

    start_S1 = np.zeros(len(drawn) + 1, dtype=np.int64)
    np.cumsum([len(one.found.row_K) for one in drawn], out=start_S1[1:])
    leads = next((number for number, one in enumerate(drawn) if one.leads), None) if how is Blend.MODEL else None
    row_C, score_C, rank_CS, best_C = fused(
        np.concatenate([one.found.row_K for one in drawn]),
        start_S1,
        np.array([one.weight for one in drawn], dtype=np.float64),
        RANK_OFFSET + 1,
        NO_RANK,
        NO_SOURCE if leads is None else leads,
        NOTHING if leads is None else stretched(drawn[leads].found.score_K),
    )
    return Blended(tuple(one.source for one in drawn), row_C, score_C, rank_CS, best_C)


def stretched(score_K: FloatArray) -> FloatArray:
    """Return scores that fall from first to last as numbers from 1 down to 0.5.

    >>> stretched(np.array([9.0, 5.0, 1.0], dtype=np.float32)).tolist()
    [1.0, 0.75, 0.5]
    """
    if not len(score_K):
        return score_K
    spread = float(score_K[0] - score_K[-1])
    if not spread > 0:
        return np.ones(len(score_K), dtype=np.float32)
    stretched_K: FloatArray = 0.5 + 0.5 * (score_K - score_K[-1]) / np.float32(spread)
    return stretched_K.astype(np.float32)
