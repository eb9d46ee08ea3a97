"""The compiled part of als: conjugate gradient steps for the rows of one side. Importing this file loads numba.

The Gram matrix of the fixed side must be diagonal; :func:`bespoke.models.als_epochs.half_epoch` rotates both sides so
that it is. Each row's system is then a diagonal plus an outer product per pair of the row, and is never formed.
Source: Takács, Pilászy, Tikk 2011 (conjugate gradient for implicit feedback).

What makes it fast: the product x·y of every observed pair is carried from step to step and from side to side, so that
no pass over the neighbours is spent on it; neighbours are taken four at a time; the last step needs no new residual;
the preconditioner takes a neighbour's squares to be those of the average row, which converges as fast as the true ones.
"""

import numba
import numpy as np

from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray


def _add_rows(total: FloatArray, scale: FloatArray, table: FloatArray, rows: RowArray) -> None:
    """Add ``scale[n] * table[rows[n]]`` for all n to ``total`` [D]."""
    factors, count = len(total), len(rows)
    fours = count - count % 4
    for n in range(0, fours, 4):
        one, two, three, four = table[rows[n]], table[rows[n + 1]], table[rows[n + 2]], table[rows[n + 3]]
        by_one, by_two, by_three, by_four = scale[n], scale[n + 1], scale[n + 2], scale[n + 3]
        for d in range(factors):
            total[d] += by_one * one[d] + by_two * two[d] + by_three * three[d] + by_four * four[d]
    for n in range(fours, count):
        one, by_one = table[rows[n]], scale[n]
        for d in range(factors):
            total[d] += by_one * one[d]


def _products(product: FloatArray, vector: FloatArray, table: FloatArray, rows: RowArray) -> None:
    """Put ``table[rows[n]] · vector`` into ``product[n]`` for all n."""
    factors, count = len(vector), len(rows)
    fours = count - count % 4
    for n in range(0, fours, 4):
        one, two, three, four = table[rows[n]], table[rows[n + 1]], table[rows[n + 2]], table[rows[n + 3]]
        of_one, of_two, of_three, of_four = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for d in range(factors):
            of_one += one[d] * vector[d]
            of_two += two[d] * vector[d]
            of_three += three[d] * vector[d]
            of_four += four[d] * vector[d]
        product[n], product[n + 1], product[n + 2], product[n + 3] = of_one, of_two, of_three, of_four
    for n in range(fours, count):
        one, of_one = table[rows[n]], np.float32(0.0)
        for d in range(factors):
            of_one += one[d] * vector[d]
        product[n] = of_one


def _solve_rows(
    row_starts: TimeArray,
    neighbours: RowArray,
    weights: FloatArray,
    places: RowArray,
    products: FloatArray,
    fixed: FloatArray,
    solved: FloatArray,
    gram_diagonal: FloatArray,
    alpha0: float,
    regularisation: FloatArray,
    chunk_starts: TimeArray,
    steps: int,
) -> None:
    """Move every row of ``solved`` [R, D] towards its least-squares solution, in place.

    Row r's pairs are ``row_starts[r]`` to ``row_starts[r + 1]``: rows of ``fixed`` in ``neighbours``, and the place of
    their product in ``products``, which follows along. Chunks of rows run in parallel; a row's result does not depend
    on the chunking.
    """
    factors = fixed.shape[1]
    average_square = gram_diagonal / np.float32(len(fixed))
    for chunk in numba.prange(len(chunk_starts) - 1):
        first, end = chunk_starts[chunk], chunk_starts[chunk + 1]
        longest = 0
        for row in range(first, end):
            longest = max(longest, row_starts[row + 1] - row_starts[row])
        scales, moves = np.empty(longest, dtype=np.float32), np.empty(longest, dtype=np.float32)
        own = np.empty(factors, dtype=np.float32)
        inverse = np.empty(factors, dtype=np.float32)
        residual = np.empty(factors, dtype=np.float32)
        direction = np.empty(factors, dtype=np.float32)
        for row in range(first, end):
            start, stop = row_starts[row], row_starts[row + 1]
            count, value = stop - start, solved[row]
            if count == 0:
                value[:] = np.float32(0.0)
                continue
            near, weight, place = neighbours[start:stop], weights[start:stop], places[start:stop]
            scale, move = scales[:count], moves[:count]
            mass = np.float32(0.0)
            for n in range(count):
                scale[n] = weight[n] * (np.float32(1.0) - products[place[n]])
                mass += weight[n]
            for d in range(factors):
                own[d] = np.float32(alpha0) * gram_diagonal[d] + regularisation[row]
                inverse[d] = np.float32(1.0) / (own[d] + mass * average_square[d])
                residual[d] = -own[d] * value[d]
            add_rows(residual, scale, fixed, near)
            slope = np.float32(0.0)
            for d in range(factors):
                direction[d] = residual[d] * inverse[d]
                slope += direction[d] * residual[d]
            for step in range(steps):
                if slope <= np.float32(1e-20):
                    break
                row_products(move, direction, fixed, near)
                curvature = np.float32(0.0)
                for n in range(count):
                    curvature += weight[n] * move[n] * move[n]
                for d in range(factors):
                    curvature += own[d] * direction[d] * direction[d]
                length = slope / curvature
                for n in range(count):
                    products[place[n]] += length * move[n]
                    scale[n] = -length * weight[n] * move[n]
                for d in range(factors):
                    value[d] += length * direction[d]
                if step + 1 == steps:
                    break
                for d in range(factors):
                    residual[d] -= length * own[d] * direction[d]
                add_rows(residual, scale, fixed, near)
                next_slope = np.float32(0.0)
                for d in range(factors):
                    next_slope += residual[d] * residual[d] * inverse[d]
                ratio = next_slope / slope
                for d in range(factors):
                    direction[d] = residual[d] * inverse[d] + ratio * direction[d]
                slope = next_slope


def _pair_products(
    row_starts: TimeArray,
    neighbours: RowArray,
    fixed: FloatArray,
    solved: FloatArray,
    chunk_starts: TimeArray,
    products: FloatArray,
) -> None:
    """Put the product of every pair of rows into ``products`` [N], in the order of the pairs."""
    for chunk in numba.prange(len(chunk_starts) - 1):
        for row in range(chunk_starts[chunk], chunk_starts[chunk + 1]):
            pairs = slice(row_starts[row], row_starts[row + 1])
            row_products(products[pairs], solved[row], fixed, neighbours[pairs])


add_rows = numba.njit(fastmath=True, cache=True)(_add_rows)
row_products = numba.njit(fastmath=True, cache=True)(_products)
solve_rows = numba.njit(parallel=True, fastmath=True, cache=True)(_solve_rows)
"""The compiled :func:`_solve_rows`; compiled at its first call and kept in ``__pycache__``."""
pair_products = numba.njit(parallel=True, fastmath=True, cache=True)(_pair_products)


def chunks(row_starts: TimeArray, *, count: int = 128) -> AnyArray:
    """Return the row at which each chunk starts, and the end: about as many pairs in each."""
    cuts = np.searchsorted(row_starts, np.linspace(0, row_starts[-1], count + 1))
    cuts[0], cuts[-1] = 0, len(row_starts) - 1
    return np.unique(cuts).astype(np.int64)
