"""The compiled part of reading one history: which lines count, in which order, and how they fade.

Importing this file loads numba. No kernel gives up Python's lock: each takes some microseconds, and waiting for the
lock can take thousands. A line counts if it weighs something and is about a known item, whose row is not negative.
N lines of the history, L of them that count, H distinct items, S visits.
"""

import numba
import numpy as np
from numba import types

from bespoke.clock import DAY_MS
from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray

BITS = 9
DIGITS = 1 << BITS
"""Rows are sorted by so many bits at a time: twice, up to 262,144 items."""
RUN = 8
"""Lines put in order one by one, before longer runs are merged."""

_ROWS = types.Array(types.int32, 1, "C", readonly=True)
_TIMES = types.Array(types.int64, 1, "C", readonly=True)
_WEIGHTS = types.Array(types.float32, 1, "C", readonly=True)
_OWN_ROWS, _OWN_TIMES = types.Array(types.int32, 1, "C"), types.Array(types.int64, 1, "C")
_OWN_WEIGHTS = types.Array(types.float32, 1, "C")


def _counted(row_N: RowArray, weight_N: FloatArray) -> TimeArray:
    """Return where the lines that count stand [L]."""
    place_L, count = np.empty(min(len(row_N), len(weight_N)), dtype=np.int64), 0
    for n in range(len(place_L)):
        if row_N[n] >= 0 and weight_N[n] > 0:
            place_L[count] = n
            count += 1
    return place_L[:count]


def _sorted_rows(place_L: TimeArray, row_N: RowArray) -> TimeArray:
    """Return ``row << 32 | place`` of the places, ascending."""
    numbers_L, others_L, most = np.empty_like(place_L), np.empty_like(place_L), np.int64(0)
    for n in range(len(place_L)):
        numbers_L[n] = (np.int64(row_N[place_L[n]]) << 32) | place_L[n]
        most = max(most, numbers_L[n])
    start, shift = np.empty(DIGITS + 1, dtype=np.int64), 32
    while most >> shift:
        start[:] = 0
        for number in numbers_L:
            start[((number >> shift) & (DIGITS - 1)) + 1] += 1
        for digit in range(DIGITS):
            start[digit + 1] += start[digit]
        for number in numbers_L:
            digit = (number >> shift) & (DIGITS - 1)
            others_L[start[digit]] = number
            start[digit] += 1
        numbers_L, others_L = others_L, numbers_L
        shift += BITS
    return numbers_L


def _share_left(at_ms: int, line_ms: int, half_life_days: float) -> float:
    """Return what is left of a weight at ``at_ms``; of what lies in the future, all. A half-life of 0: no ageing."""
    if half_life_days <= 0:
        return 1.0
    # float32 ends at 2**-126; what lies below would turn into zero and the line would vanish.
    return np.exp2(-min(max(at_ms - line_ms, 0) / DAY_MS / half_life_days, 120.0))  # type: ignore[no-any-return]


def _any_counts(row_N: RowArray, weight_N: FloatArray) -> bool:
    """Return whether any line counts."""
    n, end = 0, min(len(row_N), len(weight_N))
    while n < end and not (row_N[n] >= 0 and weight_N[n] > 0):
        n += 1
    return n < end


def _mass(
    row_N: RowArray, weight_N: FloatArray, at_ms_N: TimeArray, at_ms: int, half_life_days: float
) -> tuple[RowArray, FloatArray]:
    """Return the distinct known items, ascending, and the decayed weight of each, where that is not too small."""
    place_L, value_N = counted(row_N, weight_N), np.empty(len(row_N), dtype=np.float32)
    line_ms, share = at_ms, 1.0
    for place in place_L:
        # The lines of one basket stand together.
        if at_ms_N[place] != line_ms:
            line_ms, share = at_ms_N[place], share_left(at_ms, at_ms_N[place], half_life_days)
        value_N[place] = weight_N[place] * share
    number_L = sorted_rows(place_L, row_N)
    row_H, mass_H = np.empty(len(number_L), dtype=np.int32), np.empty(len(number_L), dtype=np.float32)
    items, total = 0, 0.0
    for n in range(len(number_L)):
        row = number_L[n] >> 32
        total += value_N[number_L[n] & 0xFFFFFFFF]
        if n + 1 == len(number_L) or number_L[n + 1] >> 32 != row:
            row_H[items], mass_H[items], total = row, total, 0.0
            items += mass_H[items] > 0
    return row_H[:items], mass_H[:items]


def _before(a: int, b: int, key_N: AnyArray, weight_N: FloatArray, by_weight: bool) -> bool:
    """Return whether line ``a`` has a smaller key than line ``b``, or the same one and less weight if that matters."""
    smaller = key_N[a] < key_N[b] or (by_weight and key_N[a] == key_N[b] and weight_N[a] < weight_N[b])
    return smaller


def _put_in_order(place_L: TimeArray, key_N: AnyArray, weight_N: FloatArray, by_weight: bool) -> None:
    """Sort places by their lines' keys, and by weight if that matters; of equal lines the first stays first."""
    count, run = len(place_L), RUN
    for n in range(1, count):
        first, place, m = n - n % RUN, place_L[n], n
        while m > first and before(place, place_L[m - 1], key_N, weight_N, by_weight):
            place_L[m] = place_L[m - 1]
            m -= 1
        place_L[m] = place
    while run < count:
        for first in range(0, count - run, 2 * run):
            middle, end = first + run, min(first + 2 * run, count)
            # Histories come in order of time, mostly.
            if not before(place_L[middle], place_L[middle - 1], key_N, weight_N, by_weight):
                continue
            left_L, left, right = place_L[first:middle].copy(), 0, middle
            for n in range(first, end):
                if left == run:
                    break
                takes_right = right < end and before(place_L[right], left_L[left], key_N, weight_N, by_weight)
                place_L[n] = place_L[right] if takes_right else left_L[left]
                right += takes_right
                left += not takes_right
        run *= 2


def _newest_visits(
    row_N: RowArray,
    weight_N: FloatArray,
    at_ms_N: TimeArray,
    most: int,
    gap_ms: float,
    exponent: float,
    step_share: float,
    earlier_share: float,
) -> tuple[RowArray, FloatArray]:
    """Return the rows of the newest visits, newest first, and what each counts.

    Args:
        row_N: the row of each line.
        weight_N: its weight.
        at_ms_N: its time; of one time, the smaller row comes first.
        most: how many visits at most; lines of one item in a row are one.
        gap_ms: longer pauses end a session.
        exponent: a visit counts its line's weight to this power,
        step_share: times this for each moment after it at which there is a visit,
        earlier_share: times this where it is of an earlier session than the newest one.
    """
    place_L = counted(row_N, weight_N)
    put_in_order(place_L, at_ms_N, weight_N, False)
    end, visits, last_row = len(place_L), 0, -1
    most = min(most, end)
    row_S, value_S = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float32)
    steps_left, session_left, last_ms = 1.0, 1.0, 0
    while end and visits < most:
        first, at_ms = end - 1, at_ms_N[place_L[end - 1]]
        while first and at_ms_N[place_L[first - 1]] == at_ms:
            first -= 1
        put_in_order(place_L[first:end], row_N, weight_N, False)
        for place in place_L[first:end]:
            if row_N[place] == last_row or visits == most:
                continue
            if visits and last_ms > at_ms:
                steps_left *= step_share
                session_left = earlier_share if last_ms - at_ms > gap_ms else session_left
            row_S[visits], last_row, last_ms = row_N[place], row_N[place], at_ms
            value_S[visits] = weight_N[place] ** exponent * steps_left * session_left
            visits += 1
        end = first
    return row_S[:visits], value_S[:visits]


def _newest_lines(
    row_N: RowArray, weight_N: FloatArray, at_ms_N: TimeArray, limit: int
) -> tuple[RowArray, TimeArray, FloatArray]:
    """Return row, time and weight of the newest ``limit`` lines, oldest first; those of one time and item are one."""
    place_L = counted(row_N, weight_N)
    put_in_order(place_L, at_ms_N, weight_N, False)
    end = len(place_L)
    free = size = min(end, max(limit, 0))
    row_L, at_ms_L = np.empty(size, dtype=np.int32), np.empty(size, dtype=np.int64)
    weight_L = np.empty(size, dtype=np.float32)
    while end and free:
        first, at_ms = end - 1, at_ms_N[place_L[end - 1]]
        while first and at_ms_N[place_L[first - 1]] == at_ms:
            first -= 1
        put_in_order(place_L[first:end], row_N, weight_N, True)
        while end > first and free:
            same, row, total = end - 1, row_N[place_L[end - 1]], np.float32(0.0)
            while same > first and row_N[place_L[same - 1]] == row:
                same -= 1
            for place in place_L[same:end]:
                total += weight_N[place]
            free, end = free - 1, same
            row_L[free], at_ms_L[free], weight_L[free] = row, at_ms, total
    return row_L[free:], at_ms_L[free:], weight_L[free:]


def _lines_in_all(
    row_L: RowArray, weight_L: FloatArray, at_ms_L: TimeArray, at_ms: int, half_life_days: float, lately_days: float
) -> tuple[FloatArray, float, int, int]:
    """Return decayed weights, their sum, the number of distinct items, and that of lines younger than some days."""
    aged_L, total, lately, line_ms, share = np.empty(len(row_L), dtype=np.float32), 0.0, 0, at_ms, 1.0
    for n in range(len(row_L)):
        if at_ms_L[n] != line_ms:
            line_ms, share = at_ms_L[n], share_left(at_ms, at_ms_L[n], half_life_days)
        aged_L[n] = weight_L[n] * share
        total += aged_L[n]
        lately += (at_ms - line_ms) / DAY_MS < lately_days
    number_L, items = sorted_rows(np.arange(len(row_L)), row_L), 0
    for n in range(len(number_L)):
        items += n == 0 or number_L[n] >> 32 != number_L[n - 1] >> 32
    return aged_L, total, items, lately


counted = numba.njit(cache=True)(_counted)
sorted_rows = numba.njit(cache=True)(_sorted_rows)
share_left = numba.njit(cache=True)(_share_left)
before = numba.njit(cache=True)(_before)
put_in_order = numba.njit(cache=True)(_put_in_order)

any_counts = numba.njit(types.bool_(_ROWS, _WEIGHTS), cache=True)(_any_counts)
mass = numba.njit(
    types.Tuple((_OWN_ROWS, _OWN_WEIGHTS))(_ROWS, _WEIGHTS, _TIMES, types.int64, types.float64),  # type: ignore[no-untyped-call]
    cache=True,
)(_mass)
newest_visits = numba.njit(
    types.Tuple((_OWN_ROWS, _OWN_WEIGHTS))(  # type: ignore[no-untyped-call]
        *(_ROWS, _WEIGHTS, _TIMES, types.int64),
        *(types.float64, types.float64, types.float64, types.float64),
    ),
    cache=True,
)(_newest_visits)
newest_lines = numba.njit(
    types.Tuple((_OWN_ROWS, _OWN_TIMES, _OWN_WEIGHTS))(_ROWS, _WEIGHTS, _TIMES, types.int64),  # type: ignore[no-untyped-call]
    cache=True,
)(_newest_lines)
lines_in_all = numba.njit(
    types.Tuple((_OWN_WEIGHTS, types.float64, types.int64, types.int64))(  # type: ignore[no-untyped-call]
        _ROWS, _WEIGHTS, _TIMES, types.int64, types.float64, types.float64
    ),
    cache=True,
)(_lines_in_all)
