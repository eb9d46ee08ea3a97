"""Diversification: lists whose items are not all alike."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import FloatArray, RowArray
from bespoke.recommend.settings import Diversity

ANY_NUMBER = -1
PIECE = 1_000_000
"""So many numbers are multiplied between two looks at the clock."""
NO_VECTORS: FloatArray = np.zeros((0, 0), dtype=np.float32)


def diversify(
    score_M: FloatArray,
    *,
    num_results: int,
    settings: Diversity,
    vector_MD: FloatArray | None,
    category_M: RowArray,
    brand_M: RowArray,
    late: Callable[[], bool] = lambda: False,
) -> npt.NDArray[np.int64] | None:
    """Return the places of the M candidates in an order whose first ``num_results`` are diverse; None if it got late.

    Greedy: each place goes to the candidate with the highest ``(1 - mmr) score - mmr similarity``, where similarity is
    the highest cosine with what stands above; of one category or brand come at most as many as the caps say. What is
    left follows in its old order, what a cap left out last.

    Args:
        score_M: relevance, best first, 0..1.
        num_results: how long the list is.
        settings: weights and caps.
        vector_MD: vectors of length 1, or zeros where nothing is known; None: none at all.
        category_M: code of the narrowest category, -1 where there is none: those count one by one.
        brand_M: the same of the brand.
        late: says whether the stage has had its time.

    Source: Carbonell, Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries".
    """
    from bespoke.recommend.kernels import diversified

    size = len(score_M)
    value_M = (1.0 - settings.mmr) * score_M.astype(np.float64)
    if not settings.mmr or vector_MD is None:
        vector_MD = NO_VECTORS
    cost_M, capped_M, order_M = np.zeros(size), np.zeros(size, dtype=np.bool_), np.arange(size)
    # A piece of some tenths of a millisecond, then a look at the clock.
    piece = max(PIECE // max(size * (vector_MD.shape[1] + 1), 1), 1)
    placed, wanted = 0, min(num_results, size)
    while placed < wanted:
        if late():
            return None
        end = min(placed + piece, wanted)
        placed = diversified(
            value_M,
            np.float32(settings.mmr),
            vector_MD,
            category_M,
            brand_M,
            ANY_NUMBER if settings.per_category is None else settings.per_category,
            ANY_NUMBER if settings.per_brand is None else settings.per_brand,
            cost_M,
            capped_M,
            order_M,
            placed,
            end,
        )
        if placed < end:
            break
    return order_M
