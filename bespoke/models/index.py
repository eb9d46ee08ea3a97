"""The exact top-k of a score array."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import FloatArray, RowArray

BoolArray = npt.NDArray[np.bool_]

EMPTY: RowArray = np.zeros(0, dtype=np.int32)
EMPTY.flags.writeable = False
NOTHING: FloatArray = np.zeros(0, dtype=np.float32)
NOBODY: BoolArray = np.zeros(0, dtype=np.bool_)
"""Bars no row."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """K rows of a model's vocabulary and their scores, best first; of equal scores the smaller row comes first."""

    row_K: RowArray
    score_K: FloatArray
    """Finite."""

    def __len__(self) -> int:
        return len(self.row_K)

    @classmethod
    def none(cls) -> "Retrieved":
        """Return nothing."""
        return cls(EMPTY, np.zeros(0, dtype=np.float32))


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


def best_of(scores_I: FloatArray, *, k: int, barred_I: BoolArray | None = None, exclude: RowArray = EMPTY) -> Retrieved:
    """Return the ``k`` best rows of all scores, among rows neither barred nor excluded.

    >>> best_of(np.array([.1, .3, .2], dtype=np.float32), k=2, barred_I=np.array([False, True, False])).row_K.tolist()
    [2, 0]
    """
    if barred_I is not None:
        scores_I = np.where(barred_I, np.float32(-np.inf), scores_I)
    row_K = top_k(scores_I, k=k, exclude=exclude)
    return Retrieved(row_K, scores_I[row_K])


def best_among(row_C: RowArray, score_C: FloatArray, *, k: int) -> Retrieved:
    """Return the ``k`` best of these rows, which are distinct and stand in any order.

    >>> best_among(np.array([7, 3, 5], dtype=np.int32), np.array([.5, .5, .1], dtype=np.float32), k=2).row_K.tolist()
    [3, 7]
    """
    from bespoke.models.retrieval_kernel import best  # numba takes a second to load, and training needs none of this

    return Retrieved(*best(EMPTY, NOTHING, row_C, score_C, NOBODY, EMPTY, k))


class Ranking:
    """Scores that are the same for everybody, in their order: the best of them without a look at the others."""

    def __init__(self, score_I: FloatArray) -> None:
        self.score_I: FloatArray = np.ascontiguousarray(score_I, dtype=np.float32)
        self.order_I: RowArray = np.argsort(-score_I, kind="stable").astype(np.int32)

    def best(self, *, k: int, barred_I: BoolArray | None = None, exclude: RowArray = EMPTY) -> Retrieved:
        """Return the ``k`` best rows among those neither barred nor excluded."""
        return self.best_with(EMPTY, NOTHING, k=k, barred_I=barred_I, exclude=exclude)

    def best_with(
        self, row_C: RowArray, score_C: FloatArray, *, k: int, barred_I: BoolArray | None, exclude: RowArray
    ) -> Retrieved:
        """Return the ``k`` best where some rows, which are distinct, have scores of their own."""
        from bespoke.models.retrieval_kernel import best

        barred_I = NOBODY if barred_I is None else barred_I
        return Retrieved(*best(self.order_I, self.score_I, row_C, score_C, barred_I, exclude, k))


def allowed(row_C: RowArray, *, barred_I: BoolArray | None, exclude: RowArray) -> BoolArray:
    """Return which of these rows are neither barred nor excluded."""
    allowed_C = np.ones(len(row_C), dtype=np.bool_) if barred_I is None else ~barred_I[row_C]
    if len(exclude):
        allowed_C &= ~among(row_C, np.sort(exclude))
    return allowed_C


def among(row_C: RowArray, sorted_N: RowArray) -> BoolArray:
    """Return which of some rows are among others that stand in ascending order.

    >>> among(np.array([5, 1, 9]), np.array([1, 2, 5])).tolist()
    [True, True, False]
    """
    if not len(sorted_N):
        return np.zeros(len(row_C), dtype=np.bool_)
    place_C = np.minimum(np.searchsorted(sorted_N, row_C), len(sorted_N) - 1)
    is_among_C: BoolArray = sorted_N[place_C] == row_C
    return is_among_C
