"""The parts that compiled searches share: the best of some rows by their scores, and which rows are among others.

Importing this file loads numba. A score and its row are one whole number, a key, of which the least is the best. Rows
are found again by a small hash table of where they stand.
"""

import numba
import numpy as np

from bespoke.models.arrays import FloatArray, RowArray, TimeArray


def _key(score: float, row: int) -> int:
    """Return a number that is smaller for a higher score, and of equal scores for the smaller row."""
    # Minus zero equals zero, but for its bits.
    clean = np.float32(score) + np.float32(0.0)
    bits = np.int64(np.float32(clean).view(np.int32))
    rising = bits if bits >= 0 else bits ^ 0x7FFFFFFF
    return (~rising << 32) | np.int64(row)  # type: ignore[return-value]


def _score(key: int) -> float:
    """Return the score that is in a key."""
    rising = ~(key >> 32)
    bits = rising if rising >= 0 else rising ^ 0x7FFFFFFF
    return np.int32(bits).view(np.float32)  # type: ignore[return-value]


def _sink(heap: TimeArray, size: int, number: int) -> None:
    """Put ``number`` in the place of the greatest, which comes first, of the ``size`` numbers of a heap."""
    place = 0
    while 2 * place + 1 < size:
        below = 2 * place + 1
        if below + 1 < size and heap[below + 1] > heap[below]:
            below += 1
        if heap[below] <= number:
            break
        heap[place] = heap[below]
        place = below
    heap[place] = number


def _offer(heap: TimeArray, filled: int, number: int) -> int:
    """Add a number to a heap with room for one at least, in the place of the greatest where it is full.

    Returns:
        How many numbers the heap now holds.
    """
    if filled == len(heap):
        if number < heap[0]:
            sink(heap, filled, number)
        return filled
    place = filled
    while place > 0:
        above = (place - 1) >> 1
        if heap[above] >= number:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = number
    return filled + 1


def _least_first(numbers: TimeArray, k: int) -> None:
    """Put the ``k`` least of some numbers, which differ, before all others, in any order."""
    low, high = 0, len(numbers) - 1
    while low < high and k <= high:
        one, two, three = numbers[low], numbers[(low + high) >> 1], numbers[high]
        pivot = max(min(one, two), min(max(one, two), three))
        if pivot == one:
            numbers[low], numbers[high] = three, one
        elif pivot == two:
            numbers[(low + high) >> 1], numbers[high] = three, two
        place = low
        for n in range(low, high):
            # Whichever is smaller, the same is done: a branch would be guessed wrong every other time.
            number = numbers[n]
            numbers[n] = numbers[place]
            numbers[place] = number
            place += number < pivot
        numbers[high], numbers[place] = numbers[place], pivot
        if k - 1 <= place <= k:
            return
        if place < k:
            low = place + 1
        else:
            high = place - 1


def _in_order(numbers: TimeArray) -> tuple[RowArray, FloatArray]:
    """Return the rows and scores of keys, best first."""
    numbers.sort()
    row_K, score_K = np.empty(len(numbers), dtype=np.int32), np.empty(len(numbers), dtype=np.float32)
    for place in range(len(numbers)):
        row_K[place], score_K[place] = numbers[place] & 0x7FFFFFFF, score_of(numbers[place])
    return row_K, score_K


def _table(count: int) -> RowArray:
    """Return an empty hash table for ``count`` rows, which leaves at least one of its places empty."""
    size = 1
    while size <= 2 * count:
        size *= 2
    return np.full(size, -1, dtype=np.int32)


def _place(table: RowArray, row_N: RowArray, row: int) -> int:
    """Return where a table of places in ``row_N`` keeps that of ``row``, or an empty place for it."""
    last = len(table) - 1
    place = (row * 2654435769 >> 12) & last
    while table[place] >= 0 and row_N[table[place]] != row:
        place = (place + 1) & last
    return place


def _places(row_N: RowArray) -> RowArray:
    """Return a hash table of where each row stands first in ``row_N``."""
    table = table_for(len(row_N))
    for n in range(len(row_N)):
        place = place_of(table, row_N, row_N[n])
        if table[place] < 0:
            table[place] = n
    return table


def _holds(table: RowArray, row_N: RowArray, row: int) -> bool:
    """Return whether ``row_N``, of which this is the table, holds ``row``."""
    return table[place_of(table, row_N, row)] >= 0  # type: ignore[no-any-return]


def _kth_score(row_C: RowArray, score_C: FloatArray, k: int) -> float:
    """Return the ``k``-th highest of at least ``k`` scores, each of a row of its own; ``k`` is 1 or more."""
    numbers = np.empty(len(row_C), dtype=np.int64)
    for c in range(len(row_C)):
        numbers[c] = key(score_C[c], row_C[c])
    least_first(numbers, k)
    return score_of(numbers[:k].max())


key = numba.njit(cache=True)(_key)
score_of = numba.njit(cache=True)(_score)
sink = numba.njit(cache=True)(_sink)
offer = numba.njit(cache=True)(_offer)
least_first = numba.njit(cache=True)(_least_first)
in_order = numba.njit(cache=True)(_in_order)
table_for = numba.njit(cache=True)(_table)
place_of = numba.njit(cache=True)(_place)
places = numba.njit(cache=True)(_places)
holds = numba.njit(cache=True)(_holds)
kth_score = numba.njit(cache=True)(_kth_score)
