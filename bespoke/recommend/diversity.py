"""Diversification: lists whose items are not all alike."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import FloatArray, RowArray
from bespoke.recommend.settings import Diversity

NO_CODE = -1


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
        category_M: code of the narrowest category, ``NO_CODE`` where there is none: those count one by one.
        brand_M: the same of the brand.
        late: says whether the stage has had its time.

    Source: Carbonell, Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing
    Summaries".
    """
    relevance_M = (1.0 - settings.mmr) * score_M.astype(np.float64)
    nearest_M = np.zeros(len(score_M))
    open_M = np.ones(len(score_M), dtype=bool)
    capped_M = np.zeros(len(score_M), dtype=bool)
    caps = [
        (code_M, cap, dict[int, int]())
        for code_M, cap in ((category_M, settings.per_category), (brand_M, settings.per_brand))
        if cap is not None
    ]
    chosen: list[int] = []
    while len(chosen) < num_results and open_M.any():
        if late():
            return None
        value_M = np.where(open_M, relevance_M - settings.mmr * nearest_M, -np.inf)
        best = int(value_M.argmax())
        chosen.append(best)
        open_M[best] = False
        if settings.mmr and vector_MD is not None:
            np.maximum(nearest_M, vector_MD @ vector_MD[best], out=nearest_M)
        for code_M, cap, taken in caps:
            code = int(code_M[best])
            taken[code] = taken.get(code, 0) + 1
            if code != NO_CODE and taken[code] >= cap:
                full_M = open_M & (code_M == code)
                capped_M |= full_M
                open_M &= ~full_M
    rest_M = np.ones(len(score_M), dtype=bool)
    rest_M[chosen] = False
    return np.concatenate(
        [np.array(chosen, dtype=np.int64), np.flatnonzero(rest_M & ~capped_M), np.flatnonzero(capped_M & rest_M)]
    )
