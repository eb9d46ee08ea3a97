"""The compiled parts of a decision. Importing this file loads numba.

Each is a loop over some hundred candidates, for which calls into NumPy would cost more than the work. They are compiled
here and now, or read from ``__pycache__``, so that no request waits for it; threads go on while they run.

Shapes: T items of the table, I of a model, C candidates, N rows of all sources, S sources, M of a pool, D numbers of a
vector, K results.
"""

import numba
import numpy as np
import numpy.typing as npt
from numba import types

from bespoke.models.arrays import FloatArray, RowArray, TimeArray
from bespoke.models.selection_kernel import holds, place_of, places, table_for

IndexArray = npt.NDArray[np.int64]
ValueArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def _product(one_D: FloatArray, other_D: FloatArray) -> np.float32:
    total = np.float32(0)
    for d in range(len(one_D)):
        total += one_D[d] * other_D[d]
    return total


product = numba.njit(fastmath={"contract", "nsz", "reassoc"}, cache=True)(_product)
"""Sums in any order, so that several numbers are multiplied at once."""


def _array(of: types.Type, dimensions: int = 1) -> types.Type:
    return types.Array(of, dimensions, "C", readonly=True)


_ROWS, _PLACES, _SCORES, _VALUES = (_array(one) for one in (types.int32, types.int64, types.float32, types.float64))


def _fused(
    row_N: RowArray,
    start_S1: IndexArray,
    weight_S: ValueArray,
    offset: float,
    no_rank: int,
    leads: int,
    led_K: FloatArray,
) -> tuple[RowArray, FloatArray, RowArray, RowArray]:
    """Put the rows of all sources in one order, as :func:`bespoke.recommend.blending.blend` says.

    Args:
        row_N: what each source names, best first, one source after another.
        start_S1: where each source begins, and the end.
        weight_S: what a source's ranks count.
        offset: what is added to a place from 0 before it is inverted.
        no_rank: the rank of what a source does not name.
        leads: the source whose order counts; -1: none.
        led_K: the scores of what it names.

    Returns:
        The rows [C], their scores [C], their ranks [C, S] and the source that speaks most for each [C].
    """
    sources = len(weight_S)
    found_C, table, count = np.empty(len(row_N), dtype=np.int32), table_for(len(row_N)), 0
    rank_NS = np.empty((len(row_N), sources), dtype=np.int32)
    for source in range(sources):
        for n in range(start_S1[source], start_S1[source + 1]):
            place = place_of(table, found_C, row_N[n])
            if table[place] < 0:
                table[place], found_C[count] = count, row_N[n]
                for other in range(sources):
                    rank_NS[count, other] = no_rank
                count += 1
            rank_NS[table[place], source] = n - start_S1[source]
    value_C, best_N, highest = np.empty(count), np.empty(count, dtype=np.int32), 0.0
    for c in range(count):
        total, most, best = 0.0, 0.0, 0
        for source in range(sources):
            if rank_NS[c, source] != no_rank:
                share = weight_S[source] / (offset + rank_NS[c, source])
                total += share
                if share > most:
                    most, best = share, source
        value_C[c], best_N[c] = total, best
        highest = max(highest, total)
    key_C = np.empty(count)
    for c in range(count):
        value_C[c] /= max(highest, np.finfo(np.float64).tiny)
        if leads >= 0 and rank_NS[c, leads] != no_rank:
            value_C[c], best_N[c] = led_K[rank_NS[c, leads]], leads
        elif leads >= 0:
            value_C[c] *= 0.49
        # Of equal scores the one that its best source ranks higher comes first, then the smaller row.
        key_C[c] = 1e-12 * rank_NS[c, best_N[c]] - value_C[c]
    order_C = np.argsort(key_C)
    for c in range(1, count):
        own, place = order_C[c], c
        while place > 0 and key_C[order_C[place - 1]] == key_C[own] and found_C[order_C[place - 1]] > found_C[own]:
            order_C[place] = order_C[place - 1]
            place -= 1
        order_C[place] = own
    row_C, score_C = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.float32)
    rank_CS, best_C = np.empty((count, sources), dtype=np.int32), np.empty(count, dtype=np.int32)
    for c in range(count):
        own = order_C[c]
        row_C[c], score_C[c], best_C[c] = found_C[own], value_C[own], best_N[own]
        for source in range(sources):
            rank_CS[c, source] = rank_NS[own, source]
    return row_C, score_C, rank_CS, best_C


fused = numba.njit(
    types.Tuple((types.int32[::1], types.float32[::1], types.int32[:, ::1], types.int32[::1]))(  # type: ignore[no-untyped-call]
        _ROWS, _PLACES, _VALUES, types.float64, types.int64, types.int64, _SCORES
    ),
    nogil=True,
    cache=True,
)(_fused)


def _interleaved(row_N: RowArray, start_S1: IndexArray, k: int) -> RowArray:
    """Return the first of each list, then the second of each, and so on: ``k`` distinct rows at most."""
    row_K, table, count, turn, ended = np.empty(k, dtype=np.int32), table_for(k), 0, 0, False
    while not ended:
        ended = True
        for source in range(len(start_S1) - 1):
            n = start_S1[source] + turn
            if n >= start_S1[source + 1]:
                continue
            if count == k:
                return row_K
            ended = False
            place = place_of(table, row_K, row_N[n])
            if table[place] < 0:
                table[place], row_K[count] = count, row_N[n]
                count += 1
        turn += 1
    return row_K[:count]


interleaved = numba.njit(types.int32[::1](_ROWS, _PLACES, types.int64), nogil=True, cache=True)(_interleaved)


def _permitted(row_N: RowArray, mask_T: BoolArray, exclude_T: RowArray, k: int) -> IndexArray:
    """Return the places of the first ``k`` rows that the mask allows and ``exclude_T`` does not hold."""
    place_K, excluded, count = np.empty(min(k, len(row_N)), dtype=np.int64), places(exclude_T), 0
    for n in range(len(row_N)):
        if count == len(place_K):
            break
        if mask_T[row_N[n]] and not holds(excluded, exclude_T, row_N[n]):
            place_K[count] = n
            count += 1
    return place_K[:count]


permitted = numba.njit(types.int64[::1](_ROWS, _array(types.bool_), _ROWS, types.int64), nogil=True, cache=True)(
    _permitted
)


def _weightiest(
    row_N: RowArray, at_ms_N: TimeArray, code_T: RowArray, at_ms: int, half_life_ms: float, k: int
) -> IndexArray:
    """Return the ``k`` codes whose lines, halved every half-life of their age, weigh most; the smaller of equals first.

    Args:
        row_N: the item of each line; negative where the table does not have it.
        at_ms_N: the time of each line.
        code_T: the code of each item; negative where it has none.
        at_ms: the time that ages are taken at.
        half_life_ms: the age at which a line weighs half.
        k: how many at most.
    """
    code_G, weight_G, count = np.empty(len(row_N), dtype=np.int64), np.zeros(len(row_N)), 0
    for n in range(len(row_N)):
        if row_N[n] < 0 or code_T[row_N[n]] < 0:
            continue
        code, group = code_T[row_N[n]], 0
        while group < count and code_G[group] != code:
            group += 1
        if group == count:
            code_G[count] = code
            count += 1
        weight_G[group] += 0.5 ** (max(at_ms - at_ms_N[n], 0) / half_life_ms)
    kept = min(k, count)
    for place in range(kept):
        best = place
        for group in range(place + 1, count):
            if weight_G[group] > weight_G[best] or (weight_G[group] == weight_G[best] and code_G[group] < code_G[best]):
                best = group
        code_G[place], code_G[best] = code_G[best], code_G[place]
        weight_G[place], weight_G[best] = weight_G[best], weight_G[place]
    return code_G[:kept]


weightiest = numba.njit(
    types.int64[::1](_ROWS, _PLACES, _ROWS, types.int64, types.float64, types.int64), nogil=True, cache=True
)(_weightiest)


def _diversified(
    value_M: ValueArray,
    mmr: np.float32,
    vector_MD: FloatArray,
    category_M: RowArray,
    brand_M: RowArray,
    per_category: int,
    per_brand: int,
    cost_M: ValueArray,
    capped_M: BoolArray,
    order_M: IndexArray,
    first: int,
    end: int,
) -> int:
    """Fill the places from ``first`` to ``end`` of a diverse order; what is left follows in its old order.

    Args:
        value_M: what each candidate is worth by itself.
        mmr: what likeness costs.
        vector_MD: vectors of length 1, or zeros; of no candidates where likeness costs nothing.
        category_M: the category of each, -1 where there is none.
        brand_M: the same of the brand.
        per_category: so many of one category; -1: any number.
        per_brand: the same of one brand.
        cost_M: what likeness costs each so far; infinity where it is chosen or one too many of its kind. Changed.
        capped_M: whether it is one too many of its kind. Changed.
        order_M: the order; its places before ``first`` are filled. Changed.
        first: the place to begin with.
        end: the place to end before, no more than M.

    Returns:
        How many places are filled: fewer than ``end`` where the caps leave nothing.
    """
    size, placed = len(value_M), first
    while placed < end:
        best = 0
        for m in range(1, size):
            if value_M[m] - cost_M[m] > value_M[best] - cost_M[best]:
                best = m
        if cost_M[best] == np.inf:
            break
        order_M[placed] = best
        placed += 1
        if len(vector_MD):
            for m in range(size):
                likeness = max(product(vector_MD[m], vector_MD[best]), np.float32(0))
                cost_M[m] = max(cost_M[m], np.float64(mmr * likeness))
        cost_M[best] = np.inf
        for code_M, most in ((category_M, per_category), (brand_M, per_brand)):
            if most < 0 or code_M[best] < 0:
                continue
            taken = 0
            for place in range(placed):
                taken += code_M[order_M[place]] == code_M[best]
            if taken < most:
                continue
            for m in range(size):
                if code_M[m] == code_M[best] and cost_M[m] < np.inf:
                    cost_M[m], capped_M[m] = np.inf, True
    place = placed
    for capped in (False, True):
        for m in range(size):
            if capped_M[m] == capped and (capped or cost_M[m] < np.inf):
                order_M[place] = m
                place += 1
    return placed


diversified = numba.njit(
    types.int64(
        _VALUES,
        types.float32,
        _array(types.float32, 2),
        _ROWS,
        _ROWS,
        types.int64,
        types.int64,
        types.float64[::1],
        types.bool_[::1],
        types.int64[::1],
        types.int64,
        types.int64,
    ),
    nogil=True,
    cache=True,
)(_diversified)


def _places_of(wanted_K: RowArray, row_C: RowArray) -> IndexArray:
    """Return the place of each wanted row among ``row_C``; -1 where it is not among them."""
    table, place_K = places(row_C), np.empty(len(wanted_K), dtype=np.int64)
    for k in range(len(wanted_K)):
        place_K[k] = table[place_of(table, row_C, wanted_K[k])]
    return place_K


places_of = numba.njit(types.int64[::1](_ROWS, _ROWS), nogil=True, cache=True)(_places_of)
