"""The compiled part of als: conjugate gradient steps for the rows of one side. Importing this file loads numba.

The Gram matrix of the fixed side must be diagonal; :func:`bespoke.models.als.half_epoch` rotates both sides so that it
is. Each row's system is then a diagonal plus an outer product per interaction of the row, and is never formed.
Source: Takács, Pilászy, Tikk 2011 (conjugate gradient for implicit feedback).
"""

import numba
import numpy as np

from bespoke.models.base import FloatArray, RowArray, TimeArray


def _solve_rows(
    row_starts: TimeArray,
    neighbours: RowArray,
    weights: FloatArray,
    fixed: FloatArray,
    solved: FloatArray,
    diagonal: FloatArray,
    regularisation: FloatArray,
    chunk_starts: TimeArray,
    steps: int,
) -> None:
    """Move every row of ``solved`` [R, D] towards its least-squares solution, in place.

    Row r's interactions are ``neighbours[row_starts[r]:row_starts[r + 1]]``, rows of ``fixed``. Chunks of rows run in
    parallel; a row's result does not depend on the chunking.
    """
    factors = fixed.shape[1]
    for chunk in numba.prange(len(chunk_starts) - 1):
        first, end = chunk_starts[chunk], chunk_starts[chunk + 1]
        longest = 0
        for row in range(first, end):
            longest = max(longest, row_starts[row + 1] - row_starts[row])
        # The row's neighbours are read several times: from here they come out of the cache.
        near = np.empty((longest, factors), dtype=np.float32)
        residual = np.empty(factors, dtype=np.float32)
        precondition = np.empty(factors, dtype=np.float32)
        direction = np.empty(factors, dtype=np.float32)
        product = np.empty(factors, dtype=np.float32)
        for row in range(first, end):
            start, count = row_starts[row], row_starts[row + 1] - row_starts[row]
            value = solved[row]
            if count == 0:
                value[:] = 0.0
                continue
            for d in range(factors):
                own = diagonal[d] + regularisation[row]
                precondition[d] = own
                residual[d] = -own * value[d]
            for n in range(count):
                source = fixed[neighbours[start + n]]
                weight = weights[start + n]
                dot = np.float32(0.0)
                for d in range(factors):
                    near[n, d] = source[d]
                    dot += source[d] * value[d]
                miss = weight * (np.float32(1.0) - dot)
                for d in range(factors):
                    residual[d] += miss * near[n, d]
                    precondition[d] += weight * near[n, d] * near[n, d]
            slope = np.float32(0.0)
            for d in range(factors):
                direction[d] = residual[d] / precondition[d]
                slope += direction[d] * residual[d]
            for _ in range(steps):
                if slope <= np.float32(1e-20):
                    break
                for d in range(factors):
                    product[d] = (diagonal[d] + regularisation[row]) * direction[d]
                for n in range(count):
                    dot = np.float32(0.0)
                    for d in range(factors):
                        dot += near[n, d] * direction[d]
                    dot *= weights[start + n]
                    for d in range(factors):
                        product[d] += dot * near[n, d]
                curvature = np.float32(0.0)
                for d in range(factors):
                    curvature += direction[d] * product[d]
                length = slope / curvature
                next_slope = np.float32(0.0)
                for d in range(factors):
                    value[d] += length * direction[d]
                    residual[d] -= length * product[d]
                    next_slope += residual[d] * residual[d] / precondition[d]
                ratio = next_slope / slope
                for d in range(factors):
                    direction[d] = residual[d] / precondition[d] + ratio * direction[d]
                slope = next_slope


solve_rows = numba.njit(parallel=True, fastmath=True, cache=True)(_solve_rows)
"""The compiled :func:`_solve_rows`; compiled at its first call and kept in ``__pycache__``."""
