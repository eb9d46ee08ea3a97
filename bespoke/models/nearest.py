"""The items nearest to a query: the highest inner products over all item vectors, exact and in one pass over bytes.

A row is kept as int8 codes beside its float32 values. The codes give each product within a known error; only rows whose
upper bound reaches the k-th best lower bound are multiplied in float32. A row takes a quarter of the memory traffic,
and the result is that of a full scan.

Shapes: I rows, D numbers of a row, W codes of a row (D, and zeros up to the next multiple of 32), C candidates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from bespoke.errors import BundleError
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.index import EMPTY, NOBODY, NOTHING, BoolArray, Retrieved
from bespoke.vocabulary import CHUNK, chunk_starts

EXACT_TO = 200_000
"""Up to so many rows every candidate is looked at, however many there are."""
MOST_CANDIDATES = 50_000
"""Above, so many with the highest upper bounds are."""
LANES = 32
SAMPLE = 64
"""So many rows, at three places, are looked at to tell codes of other vectors."""
LARGEST = 127


@dataclass(frozen=True, slots=True)
class Codes:
    """Vectors in eight bits: ``vector ~ code * scale``, off by a vector no longer than ``error``."""

    code_IW: npt.NDArray[np.int8]
    scale_I: FloatArray
    error_I: FloatArray

    @classmethod
    def of(cls, vector_ID: FloatArray) -> Self:
        """Return the codes of vectors."""
        rows, dimensions = vector_ID.shape
        code_IW = np.zeros((rows, -(-max(dimensions, 1) // LANES) * LANES), dtype=np.int8)
        scale_I, error_I = np.zeros(rows, dtype=np.float32), np.zeros(rows, dtype=np.float32)
        for first in chunk_starts(rows):
            part = slice(first, first + CHUNK)
            code_IW[part, :dimensions], scale_I[part], error_I[part] = _coded(vector_ID[part])
        return cls(code_IW, scale_I, error_I)

    def divided(self, length_I: FloatArray) -> "Codes":
        """Return the codes of the same vectors, each divided by its length."""
        return Codes(self.code_IW, self.scale_I / length_I, self.error_I / length_I)

    def arrays(self) -> dict[str, AnyArray]:
        """Return what a bundle keeps."""
        return {"code": self.code_IW, "scale": self.scale_I, "error": self.error_I}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, AnyArray], *, vector_ID: FloatArray) -> Self:
        """Put together what :meth:`arrays` gave for these vectors.

        Raises:
            BundleError: names, types or shapes do not fit, or the first, middle and last rows are of other vectors.
        """
        rows, dimensions = vector_ID.shape
        width = -(-max(dimensions, 1) // LANES) * LANES
        expected = {"code": ("int8", (rows, width)), "scale": ("float32", (rows,)), "error": ("float32", (rows,))}
        found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
        if found != expected:
            raise BundleError(f"codes of {rows} vectors of {dimensions}: got {found}, expected {expected}")
        codes = cls(arrays["code"], arrays["scale"], arrays["error"])
        for row_P in np.array_split(np.arange(rows, dtype=np.int32), 3):
            codes._require_of(vector_ID, row_P[:SAMPLE])
        return codes

    def warm(self) -> None:
        """Load, or compile, what a search of these codes runs."""
        from bespoke.models.nearest_kernel import search_of

        search_of(self.code_IW.shape[1])

    def _require_of(self, vector_ID: FloatArray, row_P: RowArray) -> None:
        decoded_PD = self.code_IW[row_P, : vector_ID.shape[1]] * self.scale_I[row_P, None]
        off_P = np.linalg.norm(vector_ID[row_P] - decoded_PD, axis=1)
        if not (off_P <= self.error_I[row_P]).all():
            raise BundleError("the codes are of other vectors than those of the model; train it again")


class NearestItems:
    """Item vectors, ready to be searched.

    The score of row i is ``vector_i . query / length_i + weight plus_i``; lengths and plus may be left out. The first
    search of a process loads the compiled part, unless :meth:`Codes.warm` did.
    """

    def __init__(
        self,
        vector_ID: FloatArray,
        *,
        length_I: FloatArray | None = None,
        plus_I: FloatArray | None = None,
        codes: Codes | None = None,
    ) -> None:
        """Prepare vectors for search.

        Args:
            vector_ID: the vectors, which may be memory-mapped.
            length_I: what each product is divided by.
            plus_I: what is added to it, times the ``weight`` of a search.
            codes: of the vectors, undivided; made here where not given.
        """
        self.vector_ID = np.ascontiguousarray(vector_ID, dtype=np.float32)
        self._length_I = NOTHING if length_I is None else length_I
        self.plus_I = NOTHING if plus_I is None else plus_I
        codes = Codes.of(vector_ID) if codes is None else codes
        self.codes = codes if length_I is None else codes.divided(length_I)
        self._most_plus = float(np.abs(self.plus_I).max(initial=0.0))
        self._only_sinks = not (self.plus_I > 0).any()

    def __len__(self) -> int:
        return len(self.vector_ID)

    def search(
        self,
        query_D: FloatArray,
        *,
        k: int,
        weight: float = 0.0,
        barred_I: BoolArray | None = None,
        exclude: RowArray = EMPTY,
    ) -> Retrieved:
        """Return the ``k`` rows of the highest scores among rows neither barred nor excluded.

        Args:
            query_D: what to be near to.
            k: how many; fewer come only where fewer rows may.
            weight: of ``plus_I``.
            barred_I: rows that may not come.
            exclude: a few more of them.

        Raises:
            FloatingPointError: the query is not finite.
        """
        query_D = np.ascontiguousarray(query_D, dtype=np.float32)
        if not (np.isfinite(query_D).all() and np.isfinite(weight)):
            raise FloatingPointError(f"a query of {len(query_D)} numbers holds NaN or infinity")
        k = min(k, len(self))
        if k <= 0:
            return Retrieved.none()
        # numba takes a second to load, and training needs no search.
        from bespoke.models.nearest_kernel import search_of

        codes = self.codes
        row_K, score_K = search_of(codes.code_IW.shape[1])(
            self.vector_ID,
            codes.code_IW,
            codes.scale_I,
            codes.error_I,
            self._length_I,
            self.plus_I,
            self._most_plus,
            self._only_sinks,
            query_D,
            weight,
            k,
            max(MOST_CANDIDATES, k) if len(self) > EXACT_TO else len(self),
            NOBODY if barred_I is None else barred_I,
            exclude,
        )
        return Retrieved(row_K, score_K)


class Directions:
    """Item vectors at length 1, made where they are asked for: no second table of them in memory."""

    def __init__(self, vector_ID: FloatArray) -> None:
        # Without a copy where they are so already, mapped from a file or not.
        self.vector_ID = np.ascontiguousarray(vector_ID, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.vector_ID)

    def __getitem__(self, row_K: RowArray) -> FloatArray:
        """Return the directions [K, D] of some rows; zeros for negative rows, and where nothing is known of an item.

        >>> Directions(np.array([[3, 4], [0, 0]], dtype=np.float32))[np.array([0, 1])].round(1).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
        """
        from bespoke.models.nearest_kernel import directions

        direction_KD: FloatArray = directions(self.vector_ID, np.asarray(row_K, dtype=np.int32))
        return direction_KD


def _coded(vector_CD: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray, FloatArray]:
    scale_C = np.abs(vector_CD).max(axis=1, initial=0.0) / np.float32(LARGEST)
    code_CD = np.rint(vector_CD / np.maximum(scale_C, np.finfo(np.float32).tiny)[:, None])
    off_C = np.linalg.norm(vector_CD - code_CD * scale_C[:, None], axis=1)
    # What float32 sums round off, here and where candidates are multiplied, is small beside it, and counted in.
    rounding = np.finfo(np.float32).eps * (vector_CD.shape[1] + 8)
    error_C = 1.0001 * off_C + rounding * np.linalg.norm(vector_CD, axis=1)
    return np.clip(code_CD, -LARGEST, LARGEST).astype(np.int8), scale_C, error_C.astype(np.float32)


def lengths(vector_ID: FloatArray) -> FloatArray:
    """Return the lengths [I] to divide by for cosines; of a vector of zeros, one that leaves it zero."""
    length_I = np.ones(len(vector_ID), dtype=np.float32)
    for first in chunk_starts(len(vector_ID)):
        length_C = np.linalg.norm(vector_ID[first : first + CHUNK], axis=1)
        length_I[first : first + CHUNK][length_C > 0] = length_C[length_C > 0]
    return length_I
