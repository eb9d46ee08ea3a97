"""The rule book: all rules of a configuration made ready for one catalog, applied to one list after another.

What happens to a list, in this order; within a step the rules of higher priority go first, of equal ones those written
first:

1. exclude, and require without a number: what may not be shown goes.
2. boost and bury: scores count more or less, and the order follows. The scores that are reported stay the model's.
3. cap: what is too much of a kind goes, from the end. Items that are about to be pinned count first, and stay.
4. pin: items get their places.
5. require with a number: the last places that are not pinned go to what is asked for.

Shapes: T items of the table, C candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bespoke.catalog import ItemTable
from bespoke.events import ItemId
from bespoke.rules.rule import Boost, Bury, Cap, Moment, Pin, Require, Rule
from bespoke.rules.working import BoolArray, FloatArray, RowArray, WorkingList

_GATE, _WEIGHT, _CAP, _PIN, _REQUIRE = range(5)


@dataclass(frozen=True, slots=True)
class Applied:
    """What one rule did to one list.

    Attributes:
        rule: its name.
        items: how many items it took out, reranked, pinned or moved up.
        cost: how much less the model's scores of the first places sum up to because of it. Less than nothing where it
            gives back what a rule before it took, or where the list did not come in the order of its scores.
    """

    rule: str
    items: int
    cost: float


@dataclass(frozen=True, slots=True)
class Ruled:
    """A list after its rules; the shape C is that of what is left.

    Attributes:
        row_C: rows of the item table, best first.
        score_C: the model's scores, as they came; 0 for pinned items that were no candidates.
        pinned_C: whether an item stands on a place that a rule gave it.
        rule_C: the rules that moved or put each item, in the order in which they were applied.
        applied: the rules that did something, in that order. Their costs sum up to what all of them cost.
    """

    row_C: RowArray
    score_C: FloatArray
    pinned_C: BoolArray
    rule_C: tuple[tuple[str, ...], ...]
    applied: tuple[Applied, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """One rule, with what it is about as rows of the table."""

    rule: Rule
    step: int
    mask_T: BoolArray | None = None
    """Items that pass its filter; of a gate: items that may not be shown."""
    kind_T: RowArray | None = None
    rows: tuple[int, ...] = ()
    """The pinned items that the table has."""


@dataclass(frozen=True, eq=False)
class RuleBook:
    """Rules over the items of one table. It never changes, so threads may share it.

    Attributes:
        unknown: of each pin the items that the table does not have; they are passed over.
    """

    _ready: tuple[_Ready, ...] = ()
    unknown: Mapping[str, tuple[ItemId, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Sequence[Rule], table: ItemTable) -> "RuleBook":
        """Return the rules ready for a table: every filter is evaluated here, once; equal filters share the outcome."""
        masks: dict[str, BoolArray] = {}
        ready = [_ready(rule, table, masks) for rule in rules if rule.enabled]
        # Sorting keeps the order of the file among equals.
        ready.sort(key=lambda one: (one.step, -one.rule.priority))
        unknown = {
            rule.name: missing
            for rule in rules
            if rule.enabled and isinstance(rule.action, Pin)
            if (missing := tuple(item for item in rule.action.items if item not in table.items))
        }
        return cls(tuple(ready), unknown)

    def __len__(self) -> int:
        return len(self._ready)

    @cached_property
    def gates(self) -> frozenset[str]:
        """The names of the rules that bar items."""
        return frozenset(one.rule.name for one in self._ready if one.step == _GATE)

    def in_force(self, moment: Moment) -> tuple[str, ...]:
        """Return the names of the rules that hold for a request, in the order in which they are applied."""
        return tuple(one.rule.name for one in self._holding(moment))

    def barred(self, moment: Moment) -> BoolArray | None:
        """Return which items [T] the rules do not let be shown at all; None where they bar nothing.

        For sources that would otherwise bring little that may be shown. What was never a candidate costs nothing in
        :attr:`Ruled.applied`: bar before retrieval only where the candidates after it are too few.
        """
        masks = [one.mask_T for one in self._holding(moment) if one.step == _GATE and one.mask_T is not None]
        return np.logical_or.reduce(masks) if masks else None

    def apply(
        self, row_C: RowArray, score_C: FloatArray, *, moment: Moment, num_results: int, allowed_T: BoolArray
    ) -> Ruled:
        """Return a list of candidates after the rules that hold for a request.

        Args:
            row_C: the candidates as rows of the table, each once, best first.
            score_C: the model's scores, higher is better.
            moment: the request.
            num_results: how many places will be shown: what is required and what rules cost is told of these.
            allowed_T: the items that the request may show. The candidates are; pins are held against it.
        """
        holding = self._holding(moment)
        if not holding:
            return Ruled(row_C, score_C, np.zeros(len(row_C), dtype=np.bool_), ((),) * len(row_C))
        work = WorkingList(row_C, score_C, num_results=num_results, rules=len(holding))
        return _Application(holding, work, allowed_T).ruled()

    def _holding(self, moment: Moment) -> list[_Ready]:
        return [one for one in self._ready if one.rule.holds(moment)]


class _Application:
    """One list on its way through the rules that hold."""

    def __init__(self, holding: Sequence[_Ready], work: WorkingList, allowed_T: BoolArray) -> None:
        self._holding = holding
        self._work = work
        self._allowed_T = allowed_T
        self._applied: list[Applied] = []
        self._total = work.total()
        self._places: dict[int, list[int]] = {}
        self._is_planned = False

    def ruled(self) -> Ruled:
        """Return the list after all rules."""
        for number, one in enumerate(self._holding):
            if one.step >= _CAP and not self._is_planned:
                self._plan_pins()
            self._note(one.rule.name, self._step(number, one))
        return self._result()

    def _step(self, number: int, one: _Ready) -> int:
        """Apply one rule; return how many items it was about."""
        work, action = self._work, one.rule.action
        if isinstance(action, Pin):
            places = self._places.get(number, [])
            if places:
                work.place(number, places)
            return len(places)
        if isinstance(action, Cap):
            return work.cap(self._kinds(one), action.at_most)
        assert one.mask_T is not None
        hit_N = one.mask_T[work.row_N]
        if isinstance(action, Boost | Bury):
            return work.weigh(number, hit_N, action.factor)
        if isinstance(action, Require) and not action.is_gate:
            return work.raise_to(number, hit_N, action.places(work.num_results))
        return work.drop(hit_N)

    def _kinds(self, one: _Ready) -> RowArray:
        if one.kind_T is not None:
            return one.kind_T[self._work.row_N]
        assert one.mask_T is not None
        return one.mask_T[self._work.row_N].astype(np.int32) - 1

    def _note(self, name: str, items: int) -> None:
        if items:
            before, self._total = self._total, self._work.total()
            self._applied.append(Applied(name, items, before - self._total))

    def _plan_pins(self) -> None:
        """Settle which item gets which place, so that caps can count them before they are placed."""
        self._is_planned = True
        work, taken = self._work, set[int]()
        for number, one in enumerate(self._holding):
            if one.step != _PIN:
                continue
            rows = [row for row in self._wanted(one) if row not in taken and self._may_show(row)]
            if one.rule.action.filter is not None:
                rows = rows[: one.rule.action.count]  # type: ignore[union-attr]
            places = self._free_places(one, len(rows))
            rows = rows[: len(places)]
            work.pinned |= dict(zip(places, work.number_of(rows), strict=True))
            self._places[number] = places
            taken.update(rows)

    def _wanted(self, one: _Ready) -> Sequence[int]:
        if one.mask_T is None:
            return one.rows
        row_M = self._work.row_N[self._work.order_M]
        wanted: list[int] = row_M[one.mask_T[row_M]].tolist()
        return wanted

    def _may_show(self, row: int) -> bool:
        gates = (one.mask_T for one in self._holding if one.step == _GATE)
        return bool(self._allowed_T[row]) and not any(mask_T is not None and mask_T[row] for mask_T in gates)

    def _free_places(self, one: _Ready, count: int) -> list[int]:
        assert isinstance(one.rule.action, Pin)
        places = range(one.rule.action.position - 1, self._work.num_results)
        return [place for place in places if place not in self._work.pinned][:count]

    def _result(self) -> Ruled:
        work = self._work
        is_pinned_N = np.zeros(len(work.row_N), dtype=np.bool_)
        is_pinned_N[list(work.pinned.values())] = True
        return Ruled(
            work.row_N[work.order_M],
            work.score_N[work.order_M],
            is_pinned_N[work.order_M],
            self._rules_of_places(),
            tuple(self._applied),
        )

    def _rules_of_places(self) -> tuple[tuple[str, ...], ...]:
        moves = self._work.moves()
        of_bits = {
            bits: tuple(one.rule.name for n, one in enumerate(self._holding) if bits >> n & 1) for bits in set(moves)
        }
        return tuple(map(of_bits.__getitem__, moves))


def _ready(rule: Rule, table: ItemTable, masks: dict[str, BoolArray]) -> _Ready:
    action = rule.action
    step = _step_of(rule)
    if isinstance(action, Pin) and action.filter is None:
        return _Ready(rule, step, rows=tuple(row for row in table.items.rows(action.items).tolist() if row >= 0))
    if isinstance(action, Cap) and action.per is not None:
        return _Ready(rule, step, kind_T=table.narrowest_T if action.per == "category" else table.brand_T)
    assert action.filter is not None
    text = str(action.filter)
    if text not in masks:
        masks[text] = action.filter.mask(table)
    bars_others = isinstance(action, Require) and action.is_gate
    return _Ready(rule, step, mask_T=~masks[text] if bars_others else masks[text])


def _step_of(rule: Rule) -> int:
    if rule.is_gate:
        return _GATE
    steps: Mapping[type, int] = {Boost: _WEIGHT, Bury: _WEIGHT, Cap: _CAP, Pin: _PIN, Require: _REQUIRE}
    return steps[type(rule.action)]
