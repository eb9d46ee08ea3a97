"""The compiled part of retrieval where scores are few: the best of a ranking and of rows with scores of their own.

Importing this file loads numba. No kernel gives up Python's lock: each takes some tens of microseconds, and waiting for
the lock can take thousands.
"""

import math

import numba
import numpy as np
from numba import types

from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.selection_kernel import (
    holds,
    in_order,
    key,
    least_first,
    offer,
    place_of,
    places,
    score_of,
    table_for,
)

_FLAGS = types.Array(types.bool_, 1, "C", readonly=True)
_ROWS = types.Array(types.int32, 1, "C", readonly=True)
_SCORES = types.Array(types.float32, 1, "C", readonly=True)
_FOUND = types.Tuple((types.Array(types.int32, 1, "C"), types.Array(types.float32, 1, "C")))  # type: ignore[no-untyped-call]


def _bars(barred_I: AnyArray, row: int) -> bool:
    """Return whether a row is barred; no mask bars none."""
    return row < len(barred_I) and barred_I[row]


def _best(
    order_I: RowArray,
    score_I: FloatArray,
    row_C: RowArray,
    score_C: FloatArray,
    barred_I: AnyArray,
    exclude: RowArray,
    k: int,
) -> tuple[RowArray, FloatArray]:
    """Return the ``k`` best rows of a ranking where some rows, which are distinct, have scores of their own.

    Args:
        order_I: the ranking, best first; of equal scores the smaller row first.
        score_I: the scores in it, by row.
        row_C: rows that have scores of their own, in any order.
        score_C: these scores.
        barred_I: rows that may not come; empty for none.
        exclude: a few more of them, in any order.
        k: how many rows.
    """
    k = max(min(k, len(order_I) + len(row_C)), 0)
    numbers, count = np.empty(len(row_C) + min(k, len(order_I)), dtype=np.int64), 0
    excluded = places(exclude)
    for c in range(len(row_C)):
        if not (bars(barred_I, row_C[c]) or holds(excluded, exclude, row_C[c])):
            numbers[count] = key(score_C[c], row_C[c])
            count += 1
    most = np.int64(0x7FFFFFFFFFFFFFFF)
    if count >= k:
        least_first(numbers[:count], k)
        count = k
        most = numbers[:k].max() if k else np.int64(-0x8000000000000000)
    if len(order_I) and key(score_I[order_I[0]], order_I[0]) < most:
        own, end = places(row_C), count + min(k, len(order_I))
        for row in order_I:
            number = key(score_I[row], row)
            if count == end or number > most:
                break
            if not (bars(barred_I, row) or holds(own, row_C, row) or holds(excluded, exclude, row)):
                numbers[count] = number
                count += 1
        least_first(numbers[:count], k)
    return in_order(numbers[: min(count, k)])


def _neighbours(
    neighbour_IK: RowArray,
    strength_IK: FloatArray,
    row_S: RowArray,
    value_S: FloatArray,
    tie_I: FloatArray,
    repeat: float,
) -> tuple[RowArray, FloatArray]:
    """Return the distinct neighbours of some visits, the visited ones included, and what each counts in all.

    Args:
        neighbour_IK: the neighbours of every item.
        strength_IK: how strong each is; one of strength zero is none.
        row_S: the visited items.
        value_S: what each visit counts.
        tie_I: what every item has besides.
        repeat: what a visit counts for its own item.
    """
    most = len(row_S) * (neighbour_IK.shape[1] + 1)
    table, row_C, sum_C, count = table_for(most), np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float64), 0
    for s in range(len(row_S)):
        for n in range(neighbour_IK.shape[1] + 1):
            if n < neighbour_IK.shape[1]:
                row, value = neighbour_IK[row_S[s], n], strength_IK[row_S[s], n] * value_S[s]
            else:
                row, value = row_S[s], np.float32(repeat) * value_S[s]
            if value == 0:
                continue
            place = place_of(table, row_C, row)
            if table[place] < 0:
                table[place], row_C[count], sum_C[count] = count, row, 0.0
                count += 1
            sum_C[table[place]] += value
    score_C = np.empty(count, dtype=np.float32)
    for c in range(count):
        score_C[c] = np.float32(sum_C[c]) + tie_I[row_C[c]]
    return row_C[:count], score_C


def _alike(
    order_I: RowArray,
    base_I: FloatArray,
    row_H: RowArray,
    value_H: FloatArray,
    start_I: RowArray,
    term_P: RowArray,
    weight_P: FloatArray,
    barred_I: AnyArray,
    exclude: RowArray,
    terms: int,
    similarity: float,
    repeat: float,
    k: int,
) -> tuple[RowArray, FloatArray]:
    """Return the ``k`` best rows by base, likeness to a person's items, and what those items count themselves.

    A cosine lies between 0 and 1. So items are looked at in the order of their base, until the base of the next is
    further below the k-th best score than all that likeness counts.

    Args:
        order_I: the rows by base, highest first.
        base_I: what everybody gets of each item.
        row_H: the person's items, distinct.
        value_H: what each counts.
        start_I: where each item's terms begin, and the end.
        term_P: the terms of all items.
        weight_P: what each weighs in its item; the squares of an item's add up to one.
        barred_I: rows that may not come; empty for none.
        exclude: a few more of them, in any order.
        terms: how many there are.
        similarity: what likeness counts.
        repeat: what the person's own items count.
        k: how many rows.
    """
    heap = np.empty(max(min(k, len(order_I)), 0), dtype=np.int64)
    filled, excluded, own = 0, places(exclude), places(row_H)
    if not len(heap):
        return in_order(heap)
    person_T, square = np.zeros(terms, dtype=np.float64), 0.0
    for h in range(len(row_H)):
        for p in range(start_I[row_H[h]], start_I[row_H[h] + 1]):
            more, before = np.float64(weight_P[p] * value_H[h]), person_T[term_P[p]]
            person_T[term_P[p]] = before + more
            square += more * (2 * before + more)
    scale = similarity / max(math.sqrt(max(square, 0.0)), 1.1754943508222875e-38)
    # A little more, for what float32 rounds off.
    most = np.float32(1.001 * similarity + 1e-6)
    for place in range(-len(row_H), len(order_I)):
        row = row_H[place + len(row_H)] if place < 0 else order_I[place]
        score = base_I[row]
        if place < 0:
            score += np.float32(repeat) * value_H[place + len(row_H)]
        elif filled == len(heap) and score + most < score_of(heap[0]):
            break
        if bars(barred_I, row) or (place >= 0 and holds(own, row_H, row)) or holds(excluded, exclude, row):
            continue
        if filled == len(heap) and score + most < score_of(heap[0]):
            continue
        likeness = 0.0
        for p in range(start_I[row], start_I[row + 1]):
            likeness += weight_P[p] * np.float32(scale * person_T[term_P[p]])
        filled = offer(heap, filled, key(score + np.float32(likeness), row))
    return in_order(heap[:filled])


bars = numba.njit(cache=True)(_bars)

best = numba.njit(
    _FOUND(_ROWS, _SCORES, _ROWS, _SCORES, _FLAGS, _ROWS, types.int64),
    cache=True,
)(_best)
neighbours = numba.njit(
    _FOUND(
        types.Array(types.int32, 2, "C", readonly=True),
        types.Array(types.float32, 2, "C", readonly=True),
        _ROWS,
        _SCORES,
        _SCORES,
        types.float64,
    ),
    cache=True,
)(_neighbours)
alike = numba.njit(
    _FOUND(
        *(_ROWS, _SCORES, _ROWS, _SCORES, _ROWS, _ROWS, _SCORES, _FLAGS, _ROWS),
        *(types.int64, types.float64, types.float64, types.int64),
    ),
    cache=True,
)(_alike)
