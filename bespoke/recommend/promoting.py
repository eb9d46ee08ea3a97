"""Promotions: a share of the places for items of a filter."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.models.arrays import RowArray


@dataclass(frozen=True, slots=True)
class Promoted:
    """The list after promotions. K rows."""

    row_K: RowArray
    pinned_K: npt.NDArray[np.bool_]
    """Places that a promotion or a rule has filled."""
    name_of: dict[int, str]
    """Row -> the promotion that put it where it is."""


def promoted_places(share: float, num_results: int) -> list[int]:
    """Return the places from 0 that a share of a list comes to: spread evenly, the first of them early.

    >>> promoted_places(0.25, 8), promoted_places(0.1, 5)
    ([0, 4], [0])
    """
    count = min(math.ceil(share * num_results - 1e-9), num_results)
    return [number * num_results // count for number in range(count)]


def promote(
    row_C: RowArray,
    *,
    pinned_C: npt.NDArray[np.bool_],
    promotions: Sequence[tuple[str, float, RowArray]],
    num_results: int,
) -> Promoted:
    """Give each promotion its share of places; what stood there moves down.

    Places that rules have filled stay as they are. An item that stands in the list already is moved up, never down, and
    counts for its promotion.

    Args:
        row_C: the list, best first.
        pinned_C: places that rules have filled.
        promotions: name, share and the rows that may be promoted, best first.
        num_results: how long the list is.
    """
    if not promotions:
        return Promoted(row_C, pinned_C, {})
    rows, fixed = row_C.tolist(), {place: row for place, row in enumerate(row_C.tolist()) if pinned_C[place]}
    name_of: dict[int, str] = {}
    for name, share, candidates in promotions:
        free = [row for row in candidates.tolist() if row not in fixed.values()]
        for place, row in zip(
            [at for at in promoted_places(share, num_results) if at not in fixed], free, strict=False
        ):
            fixed[place] = row
            name_of[row] = name
    if not name_of:
        return Promoted(row_C, pinned_C, {})
    taken = set(fixed.values())
    others = iter([row for row in rows if row not in taken])
    placed: list[int] = []
    while len(placed) < len(rows) + len(fixed):
        row = fixed.get(len(placed))
        if row is None and (row := next(others, None)) is None:
            break
        placed.append(row)
    placed += [row for place, row in sorted(fixed.items()) if place >= len(placed)]
    pinned_K = np.zeros(len(placed), dtype=bool)
    pinned_K[[place for place in fixed if place < len(placed)]] = True
    return Promoted(np.array(placed, dtype=np.int32), pinned_K, name_of)
