"""The exact top-k of a score array."""

from collections.abc import Iterable

import numpy as np

from bespoke.models.base import FloatArray, RowArray


def top_k(scores_I: FloatArray, *, k: int, exclude: Iterable[int] = ()) -> RowArray:
    """Return the rows of the ``k`` highest scores, highest first; of equal scores the smaller row comes first.

    Args:
        scores_I: a score per row; rows at minus infinity are never returned.
        k: how many at most.
        exclude: rows to leave out.

    >>> top_k(np.array([.1, .3, .3, .2], dtype=np.float32), k=2, exclude=[1]).tolist()
    [2, 3]
    """
    excluded = np.fromiter(exclude, dtype=np.int64)
    if len(excluded):
        scores_I = scores_I.copy()
        scores_I[excluded] = -np.inf
    if k < len(scores_I):
        # Everything tied with the k-th stays in, so that ties are settled by row and not by the partition's whim.
        kth = np.partition(scores_I, len(scores_I) - k)[len(scores_I) - k] if k > 0 else np.inf
        row_C = np.flatnonzero(scores_I >= kth)
    else:
        row_C = np.arange(len(scores_I))
    row_C = row_C[scores_I[row_C] > -np.inf]
    order_C = np.argsort(-scores_I[row_C], kind="stable")
    return row_C[order_C][:k].astype(np.int32)
