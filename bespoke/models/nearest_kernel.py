"""The compiled part of the search for near items. Importing this file loads numba.

One pass over the codes: a block of products, then the rows of it that can be among the best. Whenever as many rows have
come as stood there before, those drop out whose upper bound lies below the k-th best lower bound; what is left at the
end is multiplied in float32.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.selection_kernel import holds, in_order, key, kth_score, least_first, places

BLOCK = 256
"""Rows whose products are taken before any is looked at: short enough for the first cache."""
LEAST_KEPT = 64
"""So many rows come at least before some drop out."""
LANES = 16
"""Products that are taken at once. Codes are as wide as twice that, or a multiple of it."""
AHEAD = 8192
"""How many bytes ahead codes are asked for; the processor by itself does not look beyond a page."""


def _ask_ahead(typing: Any, array: Any, offset: Any) -> tuple[Any, Any]:
    """Ask for the bytes of ``array`` at ``offset``, which may lie beyond its end."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, flag = ir.IntType(8), ir.IntType(32)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        place = builder.gep(builder.bitcast(data, byte.as_pointer()), [args[1]])
        called = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], called)
        builder.call(ask, [place, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, offset), generate


def _product(typing: Any, code_IW: Any, row: Any, query_W: Any, width: Any) -> tuple[Any, Any]:
    """Multiply row ``row`` of the codes [I, width] by the query's codes [width]; the width is a constant.

    Written out in vectors: of a loop, the compiler makes vectors of half the processor's width.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places, total = ir.IntType(64), ir.VectorType(ir.IntType(32), LANES)

        def part(array: int, bits: int, place: Any) -> Any:
            data = context.make_array(signature.args[array])(context, builder, args[array]).data
            vector = ir.VectorType(ir.IntType(bits), LANES).as_pointer()
            loaded = builder.load(builder.bitcast(builder.gep(data, [place]), vector))
            loaded.align = bits // 8
            return builder.sext(loaded, total)

        start = builder.mul(args[1], places(width.literal_value))
        products = [
            builder.mul(part(0, 8, builder.add(start, places(first))), part(2, 16, places(first)))
            for first in range(0, width.literal_value, LANES)
        ]
        while len(products) > 1:
            products = [*map(builder.add, products[::2], products[1::2]), *products[len(products) // 2 * 2 :]]
        name = f"llvm.vector.reduce.add.v{LANES}i32"
        called = ir.FunctionType(ir.IntType(32), [total])
        reduce = builder.module.globals.get(name) or ir.Function(builder.module, called, name)
        return builder.call(reduce, products)

    return types.int32(code_IW, row, query_W, width), generate


def _drop(row_C: RowArray, high_C: FloatArray, low_C: FloatArray, count: int, least: np.float32) -> int:
    """Keep those of the first ``count`` candidates whose upper bound is not below ``least``; return how many."""
    kept = 0
    for place in range(count):
        if high_C[place] >= least:
            row_C[kept], high_C[kept], low_C[kept] = row_C[place], high_C[place], low_C[place]
            kept += 1
    return kept


def _query_codes(query_D: FloatArray, query_W: AnyArray) -> tuple[np.float32, Any]:
    """Put the query's codes into ``query_W``; return what one of them is worth, and how far off they are in all."""
    width, most = len(query_W), np.float32(0.0)
    # The sum of all products must fit into 32 bits.
    largest = np.float32(min(32_767, (2**31 - 1) // (127 * width)))
    for value in query_D:
        most = max(most, abs(value))
    step, off = most / largest, 0.0
    query_W[:] = 0
    if step > 0:
        for d in range(len(query_D)):
            query_W[d] = np.int16(np.rint(query_D[d] / step))
            off += (query_D[d] - query_W[d] * step) ** 2
    return step, np.sqrt(off)


def _scores(
    row_C: RowArray,
    vector_ID: FloatArray,
    length_I: FloatArray,
    plus_I: FloatArray,
    query_D: FloatArray,
    weight: float,
) -> FloatArray:
    """Return the scores [C] of some rows."""
    score_C = np.empty(len(row_C), dtype=np.float32)
    for place in range(len(row_C)):
        row, total = row_C[place], np.float32(0.0)
        for d in range(len(query_D)):
            total += vector_ID[row, d] * query_D[d]
        if len(length_I):
            total /= length_I[row]
        if len(plus_I):
            total += weight * plus_I[row]
        score_C[place] = total
    return score_C


def _directions(vector_ID: FloatArray, row_K: RowArray) -> FloatArray:
    """Return the vectors [K, D] of some rows at length 1; zeros for negative rows, and where nothing is known."""
    dimensions = vector_ID.shape[1]
    vector_KD = np.zeros((len(row_K), dimensions), dtype=np.float32)
    for place in range(len(row_K)):
        row, square = row_K[place], np.float32(0.0)
        if row < 0:
            continue
        for d in range(dimensions):
            square += vector_ID[row, d] * vector_ID[row, d]
        length = max(np.sqrt(square), np.finfo(np.float32).tiny)
        for d in range(dimensions):
            vector_KD[place, d] = vector_ID[row, d] / length
    return vector_KD


_FAST = {"contract", "nsz", "reassoc"}
ask_ahead = intrinsic(_ask_ahead)
product = intrinsic(prefer_literal=True)(_product)
drop = numba.njit(cache=True)(_drop)
query_codes = numba.njit(cache=True)(_query_codes)
scores = numba.njit(cache=True, fastmath=_FAST)(_scores)

directions = numba.njit(
    types.float32[:, ::1](
        types.Array(types.float32, 2, "C", readonly=True), types.Array(types.int32, 1, "C", readonly=True)
    ),
    nogil=True,
    fastmath=_FAST,
    cache=True,
)(_directions)

_FLOATS = types.Array(types.float32, 1, "C", readonly=True)
_SIGNATURE = types.Tuple((types.Array(types.int32, 1, "C"), types.Array(types.float32, 1, "C")))(  # type: ignore[no-untyped-call]
    types.Array(types.float32, 2, "C", readonly=True),
    types.Array(types.int8, 2, "C", readonly=True),
    _FLOATS,
    _FLOATS,
    _FLOATS,
    _FLOATS,
    types.float32,
    types.boolean,
    _FLOATS,
    types.float32,
    types.int64,
    types.int64,
    types.Array(types.bool_, 1, "C", readonly=True),
    types.Array(types.int32, 1, "C", readonly=True),
)


@cache
def search_of(width: int) -> Callable[..., tuple[RowArray, FloatArray]]:
    """Return the compiled search of codes of this width: a known width lets the products be written out.

    It is compiled here and now, or read from ``__pycache__``, so that no request waits for it; threads go on while it
    runs.
    """

    def search(
        vector_ID: FloatArray,
        code_IW: AnyArray,
        scale_I: FloatArray,
        error_I: FloatArray,
        length_I: FloatArray,
        plus_I: FloatArray,
        most_plus: float,
        sinks: bool,
        query_D: FloatArray,
        weight: float,
        k: int,
        most: int,
        barred_I: AnyArray,
        exclude: RowArray,
    ) -> tuple[RowArray, FloatArray]:
        """Return the ``k`` rows of the highest scores, best first, and their scores.

        Args:
            vector_ID: the vectors.
            code_IW: their codes; with ``scale_I`` and ``error_I`` see :class:`bespoke.models.nearest.Codes`.
            scale_I: of the codes.
            error_I: of the codes.
            length_I: what products are divided by, or nothing.
            plus_I: what is added, times ``weight``, or nothing.
            most_plus: the largest of ``plus_I``, without its sign.
            sinks: whether ``plus_I`` can only make scores lower.
            query_D: what to be near to.
            weight: of ``plus_I``.
            k: how many, at least one.
            most: so many rows at most are multiplied in float32, those with the highest upper bounds.
            barred_I: rows that may not come, or nothing.
            exclude: more of them.
        """
        rows, plus, barred = len(code_IW), len(plus_I) > 0, len(barred_I) > 0
        excluded = places(exclude)
        query_W, squares = np.empty(width, dtype=np.int16), 0.0
        step, off = query_codes(query_D, query_W)
        for value in query_D:
            squares += value * value
        # A row of codes is at most this long, so that much comes of what the query's own codes are off.
        per_scale = np.float32(1.0001 * off * 127 * np.sqrt(len(query_D)))
        per_error, margin = np.float32(1.0001 * np.sqrt(squares)), np.float32(1e-6 * abs(weight) * most_plus)
        worth, least = np.float32(step), np.float32(-np.inf)
        # What can only sink a row is looked up for those that are among the best without it.
        later = sinks and weight >= 0
        count, full, room = 0, max(2 * k, LEAST_KEPT), max(2 * k, LEAST_KEPT) + BLOCK
        row_C, high_C = np.empty(room, dtype=np.int32), np.empty(room, dtype=np.float32)
        low_C, product_B = np.empty(room, dtype=np.float32), np.empty(BLOCK, dtype=np.int32)
        high_B = np.empty(BLOCK, dtype=np.float32)
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            for b in range(size):
                ask_ahead(code_IW, (start + b) * width + AHEAD)  # type: ignore[call-arg]
                product_B[b] = product(code_IW, start + b, query_W, width)
            # Slices: a loop over places of the whole column would look for negative ones, and take one value at a time.
            scale_B, error_B, able = scale_I[start : start + size], error_I[start : start + size], np.int32(0)
            for b in range(size):
                high = np.float32(product_B[b]) * (scale_B[b] * worth) + scale_B[b] * per_scale + error_B[b] * per_error
                high_B[b] = high + margin
                # Counted, not the highest looked for: sums of whole numbers take many values at a time.
                able += np.int32(high_B[b] >= least)
            if plus and not later:
                plus_B, able = plus_I[start : start + size], np.int32(0)
                for b in range(size):
                    high_B[b] += weight * plus_B[b]
                    able += np.int32(high_B[b] >= least)
            if not able:
                continue
            for b in range(size):
                row = start + b
                if high_B[b] < least or (barred and barred_I[row]) or holds(excluded, exclude, row):
                    continue
                if plus and later:
                    high_B[b] += weight * plus_I[row]
                    if high_B[b] < least:
                        continue
                row_C[count], high_C[count] = row, high_B[b]
                low_C[count] = high_B[b] - np.float32(2) * (
                    scale_I[row] * per_scale + error_I[row] * per_error + margin
                )
                count += 1
            if count >= full:
                least = np.float32(kth_score(row_C[:count], low_C[:count], k))
                count = drop(row_C, high_C, low_C, count, least)
                full = count + max(2 * k, count, LEAST_KEPT)
                if full + BLOCK > room:
                    room = 2 * (full + BLOCK)
                    row_C = np.concatenate((row_C[:count], np.empty(room - count, dtype=np.int32)))
                    high_C = np.concatenate((high_C[:count], np.empty(room - count, dtype=np.float32)))
                    low_C = np.concatenate((low_C[:count], np.empty(room - count, dtype=np.float32)))
        if count > k:
            count = drop(row_C, high_C, low_C, count, np.float32(kth_score(row_C[:count], low_C[:count], k)))
        if count > most:
            count = drop(row_C, high_C, low_C, count, np.float32(kth_score(row_C[:count], high_C[:count], most)))
        score_C = scores(row_C[:count], vector_ID, length_I, plus_I, query_D, weight)
        numbers = np.empty(count, dtype=np.int64)
        for c in range(count):
            numbers[c] = key(score_C[c], row_C[c])
        least_first(numbers, k)
        return in_order(numbers[: min(k, count)])

    compiled: Callable[..., tuple[RowArray, FloatArray]] = numba.njit(
        _SIGNATURE, nogil=True, fastmath=_FAST, cache=True
    )(search)
    return compiled
