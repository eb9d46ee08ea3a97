"""Many items' states as arrays: counted from lines and merged in bulk, equal to counting event by event.

Shapes: I items, E counts that are not zero, L lines of events.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.items.state import DAYS_KEPT, HOURS_KEPT, ItemState

INTERACTIONS = ("view", "click", "add_to_cart", "remove_from_cart", "add_to_wishlist", "purchase", "refund")
"""Interactions by code. Stored keys hold the code, so new ones come at the end."""

Ints = npt.NDArray[np.int64]

NEVER = np.iinfo(np.int64).min
"""Stands for "not sold yet"."""
_PURCHASE = INTERACTIONS.index("purchase")
_TOTAL, _DAY, _HOUR = 0, 1, 2
# A key is a kind, a bucket moved so that it is never negative, and a code, in bits: keys sort as these three do.
_CODE_BITS, _BUCKET_BITS = 8, 41
_ZERO = 1 << (_BUCKET_BITS - 1)


@dataclass(frozen=True, slots=True)
class ItemStates:
    """The states of some items, each item once."""

    ids: Sequence[str]
    """[I]"""
    first_ms_I: Ints
    last_ms_I: Ints
    received_ms_I: Ints
    sold_ms_I: Ints
    """``NEVER`` where it was not sold."""
    item_E: Ints
    """Rows in ``ids``, ascending."""
    key_E: Ints
    """What is counted: kind, bucket and interaction; ascending within an item."""
    count_E: Ints

    def __iter__(self) -> Iterator[tuple[str, ItemState]]:
        """Yield each item with its state."""
        ends = np.cumsum(np.bincount(self.item_E, minlength=len(self.ids))).tolist()
        kinds = (self.key_E >> (_CODE_BITS + _BUCKET_BITS)).tolist()
        buckets = ((self.key_E >> _CODE_BITS & ((1 << _BUCKET_BITS) - 1)) - _ZERO).tolist()
        codes, counts = (self.key_E & ((1 << _CODE_BITS) - 1)).tolist(), self.count_E.tolist()
        times = zip(
            self.first_ms_I.tolist(),
            self.last_ms_I.tolist(),
            self.received_ms_I.tolist(),
            self.sold_ms_I.tolist(),
            strict=True,
        )
        start = 0
        for item_id, (first_ms, last_ms, received_ms, sold_ms), end in zip(self.ids, times, ends, strict=True):
            found: tuple[dict[tuple[int, str], int], ...] = ({}, {}, {})
            for entry in range(start, end):
                found[kinds[entry]][buckets[entry], INTERACTIONS[codes[entry]]] = counts[entry]
            totals = {name: n for (_, name), n in found[_TOTAL].items()}
            sold = None if sold_ms == NEVER else sold_ms
            yield item_id, ItemState(first_ms, last_ms, received_ms, sold, totals, found[_DAY], found[_HOUR])
            start = end


def states_of_lines(
    ids: Sequence[str], *, item_L: Ints, interaction_L: Ints, at_ms_L: Ints, received_ms_L: Ints
) -> ItemStates:
    """Return the states of the items ``ids`` that these lines make.

    Args:
        ids: each item once, all of them in some line.
        item_L: each line's item, as a row of ``ids``.
        interaction_L: its place in :data:`INTERACTIONS`.
        at_ms_L: when its event happened.
        received_ms_L: when its event was received.
    """
    sold_L = np.where(interaction_L == _PURCHASE, at_ms_L, NEVER)
    last_ms_I = _largest(item_L, at_ms_L, len(ids))
    hour_L, day_L = at_ms_L // HOUR_MS, at_ms_L // DAY_MS
    # Most of a long history is too old for the hours, so it need not be sorted.
    lately_L = hour_L >= last_ms_I[item_L] // HOUR_MS - HOURS_KEPT
    key_E = np.concatenate(
        [
            _keys(_TOTAL, np.zeros_like(day_L), interaction_L),
            _keys(_DAY, day_L, interaction_L),
            _keys(_HOUR, hour_L[lately_L], interaction_L[lately_L]),
        ]
    )
    return _states(
        ids,
        -_largest(item_L, -at_ms_L, len(ids)),
        last_ms_I,
        _largest(item_L, received_ms_L, len(ids)),
        _largest(item_L, sold_L, len(ids)),
        np.concatenate([item_L, item_L, item_L[lately_L]]),
        key_E,
        np.ones(len(key_E), np.int64),
    )


def merged(parts: Iterable[ItemStates]) -> ItemStates:
    """Return the states of the union of disjoint sets of events."""
    parts, row_of = list(parts), dict[str, int]()
    rows = [np.array([row_of.setdefault(id, len(row_of)) for id in part.ids], np.int64) for part in parts]
    row = _joined(rows)
    first_ms, last_ms, received_ms, sold_ms = (
        _joined([getattr(part, name) for part in parts])
        for name in ("first_ms_I", "last_ms_I", "received_ms_I", "sold_ms_I")
    )
    return _states(
        list(row_of),
        -_largest(row, -first_ms, len(row_of)),
        _largest(row, last_ms, len(row_of)),
        _largest(row, received_ms, len(row_of)),
        _largest(row, sold_ms, len(row_of)),
        _joined([of_part[part.item_E] for of_part, part in zip(rows, parts, strict=True)]),
        _joined([part.key_E for part in parts]),
        _joined([part.count_E for part in parts]),
    )


def _states(
    ids: Sequence[str],
    first_ms_I: Ints,
    last_ms_I: Ints,
    received_ms_I: Ints,
    sold_ms_I: Ints,
    item_E: Ints,
    key_E: Ints,
    count_E: Ints,
) -> ItemStates:
    """Return the states with what is too old dropped and equal keys added up."""
    last_ms_E = last_ms_I[item_E]
    oldest_E = np.where(
        key_E >= _least_key(_HOUR),
        _keys(_HOUR, last_ms_E // HOUR_MS - HOURS_KEPT, 0),
        np.where(key_E >= _least_key(_DAY), _keys(_DAY, last_ms_E // DAY_MS - DAYS_KEPT, 0), 0),
    )
    kept_E = key_E >= oldest_E
    item_E, key_E, count_E = item_E[kept_E], key_E[kept_E], count_E[kept_E]
    order = np.lexsort((key_E, item_E))
    item_E, key_E, count_E = item_E[order], key_E[order], count_E[order]
    begins_E = np.ones(len(item_E), bool)
    begins_E[1:] = (item_E[1:] != item_E[:-1]) | (key_E[1:] != key_E[:-1])
    first_E = np.flatnonzero(begins_E)
    if len(first_E) < len(item_E):
        count_E = np.add.reduceat(count_E, first_E)
    return ItemStates(ids, first_ms_I, last_ms_I, received_ms_I, sold_ms_I, item_E[first_E], key_E[first_E], count_E)


def _keys(kind: int, bucket: Ints, code: Ints | int) -> Ints:
    return (kind << (_CODE_BITS + _BUCKET_BITS)) + ((bucket + _ZERO) << _CODE_BITS) + code


def _least_key(kind: int) -> int:
    return kind << (_CODE_BITS + _BUCKET_BITS)


def _largest(row: Ints, value: Ints, rows: int) -> Ints:
    found = np.full(rows, NEVER, np.int64)
    np.maximum.at(found, row, value)
    return found


def _joined(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *arrays])
