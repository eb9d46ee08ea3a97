"""Rules against a plain reading with lists and loops, on random rules and lists."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bespoke.catalog import Item, ItemTable
from bespoke.events import ItemId
from bespoke.rules import Boost, Bury, Cap, Exclude, Moment, Pin, Require, Rule, RuleBook, Ruled, parse_rules

IDS = tuple("abcdefghij")
MOMENT = Moment(datetime(2026, 6, 1, tzinfo=UTC))
TABLE = ItemTable.of(
    Item(ItemId(id), category=("x" if n % 2 else "y",), brand=None if n % 5 == 4 else "pqr"[n % 3], price=float(n))
    for n, id in enumerate(IDS)
)

filters = st.sampled_from(
    ["category == 'x'", "brand == 'p'", "brand != 'q'", "price < 4", "item_id in ('c', 'd', 'i')"]
)
counts = st.integers(1, 4)
actions = st.one_of(
    st.builds(
        lambda items, position: {"pin": {"items": items, "position": position}},
        st.lists(st.sampled_from((*IDS, "unknown")), min_size=1, max_size=3, unique=True),
        st.integers(1, 7),
    ),
    st.builds(
        lambda filter, position, at_most: {"pin": {"filter": filter, "position": position, "at_most": at_most}},
        filters,
        st.integers(1, 7),
        counts,
    ),
    st.builds(
        lambda filter, factor: {"boost": {"filter": filter, "factor": factor}}, filters, st.sampled_from([1.5, 4])
    ),
    st.builds(
        lambda filter, factor: {"bury": {"filter": filter, "factor": factor}}, filters, st.sampled_from([0, 0.5])
    ),
    st.builds(lambda filter: {"exclude": {"filter": filter}}, filters),
    st.builds(lambda filter, at_most: {"cap": {"filter": filter, "at_most": at_most}}, filters, counts),
    st.builds(
        lambda per, at_most: {"cap": {"per": per, "at_most": at_most}}, st.sampled_from(["brand", "category"]), counts
    ),
    st.builds(lambda filter: {"require": {"filter": filter}}, filters),
    st.builds(lambda filter, at_least: {"require": {"filter": filter, "at_least": at_least}}, filters, counts),
)
rule_sets = st.lists(st.tuples(actions, st.integers(0, 1)), max_size=6).map(
    lambda each: parse_rules({f"r{n}": {**action, "priority": priority} for n, (action, priority) in enumerate(each)})
)
# Quarters and their products are exact, so that ties are ties in both readings.
lists = st.lists(
    st.tuples(st.sampled_from(range(len(IDS))), st.integers(1, 8)), max_size=9, unique_by=lambda one: one[0]
)
allowed = st.lists(st.booleans(), min_size=len(IDS), max_size=len(IDS))


class Plain:
    """The rules by the letter of their page."""

    def __init__(self, rules: Sequence[Rule], order: list[int], scores: list[float], places: int) -> None:
        self.order, self.scores, self.places = order, dict(zip(order, scores, strict=True)), places
        self.rules = sorted(rules, key=lambda rule: -rule.priority)
        self.pinned: dict[int, int] = {}

    def after(self, may: Sequence[bool]) -> list[int]:
        gates = [rule for rule in self.rules if rule.is_gate]
        barred = [row for row in range(len(IDS)) if any(self.bars(rule, row) for rule in gates)]
        self.order = [row for row in self.order if row not in barred]
        self.weigh()
        for rule in self.rules:
            if isinstance(rule.action, Pin):
                self.plan(rule.action, [row for row in range(len(IDS)) if may[row] and row not in barred])
        for rule in self.rules:
            if isinstance(rule.action, Cap):
                self.cap(rule.action)
        free = [row for row in self.order if row not in self.pinned.values()]
        for place, row in sorted(self.pinned.items()):
            free.insert(place, row)
        self.order = free
        self.require()
        return self.order

    def hit(self, action: Any, row: int) -> bool:
        return bool(action.filter.mask(TABLE)[row])

    def bars(self, rule: Rule, row: int) -> bool:
        return self.hit(rule.action, row) is isinstance(rule.action, Exclude)

    def weigh(self) -> None:
        worth = dict(zip(self.order, sorted((self.scores[row] for row in self.order), reverse=True), strict=True))
        for rule in self.rules:
            if isinstance(rule.action, Boost | Bury):
                for row in self.order:
                    worth[row] *= rule.action.factor if self.hit(rule.action, row) else 1
                self.order.sort(key=lambda row: -worth[row])

    def plan(self, pin: Pin, may: Sequence[int]) -> None:
        wanted = [TABLE.items.row(id) for id in pin.items] if pin.items else [r for r in self.order if self.hit(pin, r)]
        rows = [row for row in wanted if row is not None and row in may and row not in self.pinned.values()]
        places = [place for place in range(pin.position - 1, self.places) if place not in self.pinned]
        self.pinned.update(zip(places, rows[: pin.count], strict=False))

    def cap(self, cap: Cap) -> None:
        def kind(row: int) -> object:
            item = TABLE.item(row)
            return self.hit(cap, row) or None if cap.filter else item.brand if cap.per == "brand" else item.category[-1]

        seen = [kind(row) for row in self.pinned.values()]
        for row in list(self.order):
            if row in self.pinned.values() or kind(row) is None:
                continue
            if seen.count(kind(row)) >= cap.at_most:
                self.order.remove(row)
            else:
                seen.append(kind(row))

    def require(self) -> None:
        kept: list[tuple[Require, int]] = []
        for rule in self.rules:
            if isinstance(rule.action, Require) and not rule.action.is_gate:
                self.raise_to(rule.action, kept)
                kept.append((rule.action, rule.action.places(self.places)))

    def raise_to(self, asked: Require, kept: Sequence[tuple[Require, int]]) -> None:
        before, shown = list(self.order), self.order[: self.places]
        for up in before[self.places :]:
            if self.shown(asked, shown) >= asked.places(self.places) or not self.hit(asked, up):
                continue
            for down in reversed([row for row in shown if row not in self.pinned.values()]):
                free = [row for row in shown if row not in (down, *self.pinned.values())] + [up]
                after = [self.pinned[n] if n in self.pinned else free.pop(0) for n in range(self.places)]
                harmed = [one for one, least in kept if self.shown(one, after) < min(least, self.shown(one, shown))]
                if not self.hit(asked, down) and not harmed:
                    shown = after
                    break
        self.order = [*shown, *(row for row in before if row not in shown)]

    def shown(self, asked: Require, rows: Sequence[int]) -> int:
        return sum(self.hit(asked, row) for row in rows)


def applied(rules: Sequence[Rule], order: list[int], scores: list[float], places: int, may: list[bool]) -> Ruled:
    return RuleBook.of(rules, TABLE).apply(
        np.array(order, dtype=np.int32),
        np.array(scores, dtype=np.float32),
        moment=MOMENT,
        num_results=places,
        allowed_T=np.array(may),
    )


@settings(max_examples=400, deadline=None)
@given(rule_sets, lists, st.integers(1, 6), allowed)
def test_a_list_is_what_a_plain_reading_makes_of_it(
    rules: tuple[Rule, ...], candidates: list[tuple[int, int]], places: int, may: list[bool]
) -> None:
    order, scores = [row for row, _ in candidates], [score / 4 for _, score in candidates]
    answer = applied(rules, order, scores, places, may)
    plain = Plain(rules, list(order), scores, places)
    assert answer.row_C.tolist() == plain.after(may)
    assert set(answer.row_C[answer.pinned_C].tolist()) == set(plain.pinned.values())
    # The scores stay the model's, and the costs are the whole difference.
    assert answer.score_C.tolist() == [plain.scores.get(row, 0.0) for row in answer.row_C.tolist()]
    assert len(answer.rule_C) == len(answer.row_C)
    whole = sum(scores[:places]) - float(answer.score_C[:places].sum())
    assert abs(sum(each.cost for each in answer.applied) - whole) < 1e-6
