"""The exact top-k of a score array."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import FloatArray, RowArray

BoolArray = npt.NDArray[np.bool_]

EMPTY: RowArray = np.zeros(0, dtype=np.int32)
EMPTY.flags.writeable = False


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
    """Return the ``k`` best of these rows, which are distinct and stand in any order."""
    if len(row_C) > k:
        kth = np.partition(score_C, len(score_C) - k)[len(score_C) - k] if k > 0 else np.inf
        kept_C = np.flatnonzero(score_C >= kth)
        row_C, score_C = row_C[kept_C], score_C[kept_C]
    order_K = np.lexsort((row_C, -score_C))[:k]
    return Retrieved(row_C[order_K].astype(np.int32, copy=False), score_C[order_K])


class Ranking:
    """Scores that are the same for everybody, in their order: the best of them without a look at the others."""

    def __init__(self, score_I: FloatArray) -> None:
        self.score_I = score_I
        self.order_I: RowArray = np.argsort(-score_I, kind="stable").astype(np.int32)

    def down_to(self, score: float) -> RowArray:
        """Return the rows whose score is no less than this one, best first.

        >>> Ranking(np.array([.1, .3, .2], dtype=np.float32)).down_to(.15).tolist()
        [1, 2]
        """
        # By halves, without a second table of scores in their order.
        end = bisect_left(self.order_I, True, key=lambda row: bool(self.score_I[row] < score))
        return self.order_I[:end]

    def best(self, *, k: int, barred_I: BoolArray | None = None, exclude: RowArray = EMPTY) -> Retrieved:
        """Return the ``k`` best rows among those neither barred nor excluded."""
        found: list[RowArray] = []
        first, wanted = 0, k
        while wanted > 0 and first < len(self.order_I):
            # Mostly the first few are enough; where many are barred, pieces grow.
            end = first + max(wanted + len(exclude), 2 * first)
            row_P = self.order_I[first:end]
            if barred_I is not None:
                row_P = row_P[~barred_I[row_P]]
            if len(exclude):
                row_P = row_P[~among(row_P, np.sort(exclude))]
            found.append(row_P[:wanted])
            first, wanted = end, wanted - len(found[-1])
        row_K = np.concatenate(found) if found else EMPTY
        return Retrieved(row_K, self.score_I[row_K])

    def best_with(
        self, row_C: RowArray, score_C: FloatArray, *, k: int, barred_I: BoolArray | None, exclude: RowArray
    ) -> Retrieved:
        """Return the ``k`` best where some rows, which are distinct, have scores of their own."""
        allowed_C = allowed(row_C, barred_I=barred_I, exclude=exclude)
        own = best_among(row_C[allowed_C], score_C[allowed_C], k=k)
        if len(own) == k and k and own.score_K[-1] > self.score_I[self.order_I[0]]:
            # Whatever stands in the ranking comes after these.
            return own
        rest = self.best(k=k, barred_I=barred_I, exclude=np.concatenate([exclude, row_C]))
        row_N = np.concatenate([row_C[allowed_C], rest.row_K])
        return best_among(row_N, np.concatenate([score_C[allowed_C], rest.score_K]), k=k)


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
