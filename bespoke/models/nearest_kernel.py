"""The compiled part of the search for near items. Importing this file loads numba.

One pass over the codes: a block of products, then the rows of it that can be among the best. A heap holds the best k
lower bounds so far; whatever lies above the least of them is a candidate.
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

BLOCK = 256
"""Rows whose products are taken before any is looked at: short enough for the first cache."""
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


def _put(heap: FloatArray, size: int, low: float) -> None:
    """Add ``low`` to a heap of ``size`` values, the least of which comes first."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        if heap[above] <= low:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = low


def _replace_least(heap: FloatArray, low: float) -> None:
    """Put ``low`` in the place of the least value of a full heap."""
    place, size = 0, len(heap)
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= low:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = low


def _holds(rows: RowArray, row: int) -> bool:
    """Return whether ascending ``rows`` hold ``row``."""
    first, end = 0, len(rows)
    while first < end:
        middle = (first + end) >> 1
        if rows[middle] < row:
            first = middle + 1
        else:
            end = middle
    return first < len(rows) and rows[first] == row


ask_ahead = intrinsic(_ask_ahead)
put = numba.njit(cache=True)(_put)
replace_least = numba.njit(cache=True)(_replace_least)
holds = numba.njit(cache=True)(_holds)

_SIGNATURE = types.Tuple((types.int64, types.float32))(  # type: ignore[no-untyped-call]
    types.Array(types.int8, 2, "C", readonly=True),
    types.Array(types.float32, 1, "C", readonly=True),
    types.Array(types.float32, 1, "C", readonly=True),
    types.Array(types.float32, 1, "C", readonly=True),
    types.Array(types.int16, 1, "C"),
    types.Array(types.float32, 1, "C"),
    types.Array(types.bool_, 1, "C", readonly=True),
    types.Array(types.int32, 1, "C", readonly=True),
    types.Array(types.float32, 1, "C"),
    types.Array(types.int32, 1, "C"),
    types.Array(types.float32, 1, "C"),
)


@cache
def scan_of(width: int) -> Callable[..., tuple[int, np.float32]]:
    """Return the compiled search of codes of this width: a known width lets the compiler unroll the products.

    It is compiled here and now, or read from ``__pycache__``, so that no request waits for it; threads go on while it
    runs.
    """

    def scan(
        code_IW: AnyArray,
        scale_I: FloatArray,
        error_I: FloatArray,
        plus_I: FloatArray,
        query_W: AnyArray,
        factors: FloatArray,
        barred_I: AnyArray,
        exclude: RowArray,
        heap: FloatArray,
        row_C: RowArray,
        high_C: FloatArray,
    ) -> tuple[int, np.float32]:
        """Put the candidates into ``row_C`` and their upper bounds into ``high_C``.

        Returns:
            How many candidates there are, and what a row's upper bound must reach to be one of the best.
        """
        step, per_error, per_scale, per_plus, margin, sinks = factors
        rows, k, count, filled = len(code_IW), len(heap), 0, 0
        least = np.float32(-np.inf)
        product_B, high_B = np.empty(BLOCK, dtype=np.int32), np.empty(BLOCK, dtype=np.float32)
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            for b in range(size):
                ask_ahead(code_IW, (start + b) * width + AHEAD)  # type: ignore[call-arg]
                total = np.int32(0)
                for d in range(width):
                    total += np.int32(np.int32(code_IW[start + b, d]) * np.int32(query_W[d]))
                product_B[b] = total
            for b in range(size):
                scale, error = scale_I[start + b], error_I[start + b]
                high_B[b] = np.float32(product_B[b]) * (scale * step) + scale * per_scale + error * per_error + margin
            if len(plus_I) and not sinks:
                for b in range(size):
                    high_B[b] += per_plus * plus_I[start + b]
            # Counted, not the highest looked for: sums of whole numbers take many values at a time.
            able = np.int32(0)
            for b in range(size):
                able += np.int32(high_B[b] >= least)
            if not able:
                continue
            for b in range(size):
                row = start + b
                if len(plus_I) and sinks:
                    high_B[b] += per_plus * plus_I[row]
                if high_B[b] < least or (len(barred_I) and barred_I[row]) or holds(exclude, row):
                    continue
                row_C[count], high_C[count] = row, high_B[b]
                count += 1
                low = high_B[b] - np.float32(2) * (scale_I[row] * per_scale + error_I[row] * per_error + margin)
                if filled < k:
                    put(heap, filled, low)
                    filled += 1
                    if filled == k:
                        least = heap[0]
                elif low > least:
                    replace_least(heap, low)
                    least = heap[0]
        return count, least

    compiled: Callable[..., tuple[int, np.float32]] = numba.njit(
        _SIGNATURE, nogil=True, fastmath={"contract", "nsz", "reassoc"}, cache=True
    )(scan)
    return compiled
