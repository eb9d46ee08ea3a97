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
    value_M = (1.0 - settings.mmr) * score_M.astype(np.float64)
    likeness_MM = None
    if settings.mmr and vector_MD is not None:
        likeness_MM = settings.mmr * np.maximum(vector_MD @ vector_MD.T, 0.0)
    # What likeness costs each candidate so far; a candidate that is chosen, or one too many of its kind, costs all.
    cost_M = np.zeros(len(score_M))
    capped_M = np.zeros(len(score_M), dtype=bool)
    caps = [
        (code_M, cap, dict[int, int]())
        for code_M, cap in ((category_M, settings.per_category), (brand_M, settings.per_brand))
        if cap is not None
    ]
    chosen: list[int] = []
    while len(chosen) < min(num_results, len(score_M)):
        if late():
            return None
        best = int((value_M - cost_M).argmax())
        if cost_M[best] == np.inf:
            break
        chosen.append(best)
        if likeness_MM is not None:
            np.maximum(cost_M, likeness_MM[best], out=cost_M)
        cost_M[best] = np.inf
        for code_M, cap, taken in caps:
            code = int(code_M[best])
            taken[code] = taken.get(code, 0) + 1
            if code != NO_CODE and taken[code] >= cap:
                full_M = (code_M == code) & (cost_M < np.inf)
                capped_M |= full_M
                cost_M[full_M] = np.inf
    rest_M = np.ones(len(score_M), dtype=bool)
    rest_M[chosen] = False
    return np.concatenate(
        [np.array(chosen, dtype=np.int64), np.flatnonzero(rest_M & ~capped_M), np.flatnonzero(capped_M & rest_M)]
    )
