"""The list that rules work on: each step changes the order of the candidates, and the model's scores stay as they are.

Shapes: C candidates, P items that pins bring in besides (they are numbered on from C), N of both; M items of the list.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
RowArray = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
MOST_BITS = 62
"""More rules at once than this do not fit the bits of a machine's whole number."""


class WorkingList:
    """Candidates in an order, while rules are applied to them.

    Attributes:
        row_N: rows of the item table.
        score_N: the model's scores; 0 for items that no model scored.
        order_M: what the list holds now, as numbers of row_N, best first.
        pinned: the places (from 0) that pins take, each with the number of its item.
    """

    def __init__(self, row_C: RowArray, score_C: FloatArray, *, num_results: int, rules: int) -> None:
        self.row_N = row_C
        self.score_N = score_C
        self.num_results = num_results
        self.order_M: IndexArray = np.arange(len(row_C))
        self.pinned: dict[int, int] = {}
        self._moved_N = np.zeros(len(row_C), dtype=np.int64 if rules <= MOST_BITS else object)
        self._worth_N: npt.NDArray[np.float64] | None = None
        self._placed: list[int] = []
        self._kept: list[tuple[BoolArray, int]] = []

    def total(self) -> float:
        """Return the summed model score of the list's first places."""
        return float(sum(self.score_N[self.order_M[: self.num_results]].tolist()))

    def moved_by(self, rule: int, index_P: IndexArray | BoolArray | Sequence[int]) -> None:
        """Note that a rule, by its number, moved or put items."""
        self._moved_N[index_P] |= 1 << rule

    def moves(self) -> list[int]:
        """Return by place which rules moved or put the item: a bit for each."""
        bits: list[int] = self._moved_N[self.order_M].tolist()
        return bits

    def drop(self, hit_N: BoolArray) -> int:
        """Take items out; return how many."""
        gone_M = hit_N[self.order_M]
        gone = int(np.count_nonzero(gone_M))
        if gone:
            self.order_M = self.order_M[~gone_M]
        return gone

    def weigh(self, rule: int, hit_N: BoolArray, factor: float) -> int:
        """Rank items as if their score were ``factor`` times as high; return how many.

        The list comes in an order that need not be that of the scores, for it may have been diversified. The i-th
        item counts as much as the i-th highest score, so that only what is hit changes its place. Where a score is
        negative, all count from the lowest one up: a factor would mean the opposite below zero.
        """
        worth_N = self._worth()
        hit_M = self.order_M[hit_N[self.order_M]]
        worth_N[hit_M] *= factor
        self.order_M = self.order_M[np.argsort(-worth_N[self.order_M], kind="stable")]
        self.moved_by(rule, hit_M)
        return len(hit_M)

    def _worth(self) -> npt.NDArray[np.float64]:
        if self._worth_N is None:
            highest_M = np.sort(self.score_N[self.order_M].astype(np.float64))[::-1]
            self._worth_N = np.zeros(len(self.row_N))
            self._worth_N[self.order_M] = highest_M - min(0.0, highest_M[-1] if len(highest_M) else 0.0)
        return self._worth_N

    def number_of(self, rows: Sequence[int]) -> list[int]:
        """Return the number of each row; rows that are no candidates become items without a score."""
        found = [np.flatnonzero(self.row_N == row) for row in rows]
        new = [row for row, at in zip(rows, found, strict=True) if not len(at)]
        added = iter(range(len(self.row_N), len(self.row_N) + len(new)))
        if new:
            self.row_N = np.concatenate([self.row_N, np.array(new, dtype=self.row_N.dtype)])
            self.score_N = np.concatenate([self.score_N, np.zeros(len(new), dtype=self.score_N.dtype)])
            self._moved_N = np.concatenate([self._moved_N, np.zeros(len(new), dtype=self._moved_N.dtype)])
        return [int(at[0]) if len(at) else next(added) for at in found]

    def cap(self, kind_N: RowArray, at_most: int) -> int:
        """Take out what is more than ``at_most`` of a kind, from the end; return how many.

        Args:
            kind_N: the kind of each item, -1 for those that are not capped.
            at_most: of each kind. Pinned items count first, and stay.
        """
        pinned_P = np.array(list(self.pinned.values()), dtype=np.int64)
        free_M = self.order_M[~self._among(pinned_P)[self.order_M]]
        kind_M = kind_N[np.concatenate([pinned_P, free_M])]
        surplus_M = ((kind_M >= 0) & (_occurrence(kind_M) >= at_most))[len(pinned_P) :]
        return self.drop(self._among(free_M[surplus_M]))

    def _among(self, index_P: IndexArray) -> BoolArray:
        """Return which items these are, as a mask: several times as fast as looking each one up."""
        is_among_N = np.zeros(len(self.row_N), dtype=np.bool_)
        is_among_N[index_P] = True
        return is_among_N

    def place(self, rule: int, places: Sequence[int]) -> None:
        """Put the pinned items of these places there, and those of rules before where they are; the others make way."""
        self.moved_by(rule, [self.pinned[place] for place in places])
        self._placed = sorted([*self._placed, *places])
        pinned_P = np.array([self.pinned[place] for place in self._placed], dtype=np.int64)
        free_M = self.order_M[~self._among(pinned_P)[self.order_M]]
        # Where there is not enough before a place, its item comes right after what there is.
        place_P = np.minimum(self._placed, len(free_M) + np.arange(len(pinned_P)))
        is_free_M = np.ones(len(free_M) + len(pinned_P), dtype=np.bool_)
        is_free_M[place_P] = False
        self.order_M = np.empty(len(is_free_M), dtype=np.int64)
        self.order_M[place_P] = pinned_P
        self.order_M[is_free_M] = free_M

    def raise_to(self, rule: int, hit_N: BoolArray, at_least: int) -> int:
        """Move items up until so many of the first places have one that is hit; return how many were moved.

        They take the last of the places that are not pinned, in their order; what stood there moves behind. What an
        earlier call asked for is not taken away again.
        """
        shown_M, rest_M = self.order_M[: self.num_results], self.order_M[self.num_results :]
        lacking = at_least - int(np.count_nonzero(hit_N[shown_M]))
        pairs = self._exchanges(hit_N, shown_M, rest_M, lacking) if lacking > 0 and len(rest_M) else []
        self._kept.append((hit_N, at_least))
        if pairs:
            self._exchange(shown_M, rest_M, np.array(pairs, dtype=np.int64))
            self.moved_by(rule, [up for up, _ in pairs])
        return len(pairs)

    def _exchanges(
        self, hit_N: BoolArray, shown_M: IndexArray, rest_M: IndexArray, lacking: int
    ) -> list[tuple[int, int]]:
        """Return up to so many pairs: an item that moves up, and the one that makes room for it."""
        pinned, pairs = set(self.pinned.values()), list[tuple[int, int]]()
        free = [number for number in shown_M[::-1].tolist() if number not in pinned and not hit_N[number]]
        spare = [int(np.count_nonzero(kept_N[shown_M])) - least for kept_N, least in self._kept]
        hopeless = set[tuple[int, ...]]()
        for up in rest_M[hit_N[rest_M]].tolist():
            if len(pairs) >= lacking:
                break
            helps = self._asked_for(up)
            if helps in hopeless:
                continue
            down = next((n for n in free if all(spare[k] > 0 or k in helps for k in self._asked_for(n))), None)
            if down is None:
                # No other item that helps the same earlier rules finds a place either.
                hopeless.add(helps)
                continue
            for k in helps:
                spare[k] += 1
            for k in self._asked_for(down):
                spare[k] -= 1
            free.remove(down)
            pairs.append((up, down))
        return pairs

    def _asked_for(self, number: int) -> tuple[int, ...]:
        """Return which earlier calls asked for an item."""
        return tuple(k for k, (kept_N, _) in enumerate(self._kept) if kept_N[number])

    def _exchange(self, shown_M: IndexArray, rest_M: IndexArray, pair_P2: IndexArray) -> None:
        up_N, down_N = self._among(pair_P2[:, 0]), self._among(pair_P2[:, 1])
        is_free_M = ~self._among(np.array(list(self.pinned.values()), dtype=np.int64))[shown_M]
        goes_M = down_N[shown_M]
        now_shown_M = shown_M.copy()
        now_shown_M[is_free_M] = np.concatenate([shown_M[is_free_M & ~goes_M], pair_P2[:, 0]])
        self.order_M = np.concatenate([now_shown_M, shown_M[goes_M], rest_M[~up_N[rest_M]]])


def _occurrence(kind_M: RowArray) -> IndexArray:
    """Return for each item how many of its kind come before it.

    >>> _occurrence(np.array([7, 3, 7, 7, 3], dtype=np.int32)).tolist()
    [0, 0, 1, 2, 1]
    """
    by_kind_M = np.argsort(kind_M, kind="stable")
    sorted_M = kind_M[by_kind_M]
    is_first_M = np.ones(len(kind_M), dtype=np.bool_)
    is_first_M[1:] = sorted_M[1:] != sorted_M[:-1]
    number_M = np.arange(len(kind_M))
    before_M = np.empty(len(kind_M), dtype=np.int64)
    before_M[by_kind_M] = number_M - np.maximum.accumulate(np.where(is_first_M, number_M, 0))
    return before_M
