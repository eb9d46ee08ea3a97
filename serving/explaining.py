"""Why a list came out as it did: where each item came from and what moved it, and why others are not in it. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from bespoke.catalog import ItemTable
from bespoke.clock import DAY_MS, from_ms
from bespoke.events import InteractionType, ItemId
from bespoke.models.arrays import RowArray
from bespoke.recommend import Decision, Engine, Request, Trace
from bespoke.recommend.candidates import history_of
from bespoke.recommend.placed import BoolArray
from bespoke.recommend.trace import NO_RANK
from bespoke.rules import Cap, Moment, Require, Rule

CLOSE = 1e-6
"""Scores that differ by less are the same: other processors add up in another order."""


@dataclass(frozen=True, slots=True)
class ShownItem:
    """How one item came to its place. Places count from 1."""

    item_id: ItemId
    position: int
    source: str
    source_ranks: Mapping[str, int]
    """The place that each source gave it."""
    score: float
    """As the answer had it."""
    model_score: float | None
    """The variant's model's own; None where it does not know the item."""
    places: Mapping[str, int]
    """Where it stood after each stage; a stage that did not have it yet is left out."""
    rules: tuple[str, ...]
    propensity: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotShown:
    """Why an item is not in the list."""

    item_id: ItemId
    reason: str
    """A stable word: unknown_item, unavailable, filtered, excluded, not_a_candidate, rule, ranked or shown."""
    detail: str
    place: int | None = None
    """Where it stood in the end, from 1, of everything that was a candidate."""
    source_ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one decision came about."""

    items: tuple[ShownItem, ...]
    candidates: int
    removed: Mapping[str, int]
    """How many items each filter took away, of the whole catalog."""
    rules: tuple[tuple[str, int, float], ...]
    """Each rule that changed something: its name, how many items it changed, and what it cost in score."""
    skipped: tuple[str, ...]
    degraded: str | None
    not_shown: tuple[NotShown, ...]


def explain(
    request: Request, decision: Decision, *, engine: Engine, rules: Sequence[Rule], items: Sequence[ItemId] = ()
) -> Explanation:
    """Explain a decision.

    Args:
        request: what was asked.
        decision: what ``engine`` made of it, with its trace.
        engine: what made it.
        rules: those of the engine.
        items: which of these are where, or nowhere, is told too.
    """
    assert decision.trace is not None, "every decision has its trace"
    told = _Told(request, decision, decision.trace, engine, rules)
    return Explanation(
        items=tuple(told.shown()),
        candidates=len(decision.trace.row_C),
        removed=told.removed(),
        rules=tuple((one.rule, one.items, one.cost) for one in decision.rules),
        skipped=decision.skipped,
        degraded=decision.degraded,
        not_shown=tuple(map(told.not_shown, items)),
    )


def differences(decision: Decision, logged: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return in what a decision differs from the items that were logged with it; nothing where they are the same.

    Args:
        decision: the one made again.
        logged: the ``items`` of the `Recommendation Served` event.
    """
    before = [item.get("product_id") for item in logged]
    now = [item.item_id for item in decision.items]
    if before != now:
        first = next(
            (n for n, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now))
        )
        return [f"the items differ from position {first + 1} on"]
    found = []
    for position, (item, said) in enumerate(zip(decision.items, logged, strict=True), start=1):
        found += [
            f"position {position}: {name} was {said[name]!r} and is {value!r}"
            for name, value in (("source", item.source), ("score", item.score), ("propensity", item.propensity))
            if name in said and not _alike(value, said[name])
        ]
    return found


def _alike(now: Any, before: Any) -> bool:
    if isinstance(now, float) and isinstance(before, int | float):
        return abs(now - before) <= CLOSE
    return bool(now == before)


class _Told:
    """One decision, with where each row stood after each stage."""

    def __init__(
        self, request: Request, decision: Decision, trace: Trace, engine: Engine, rules: Sequence[Rule]
    ) -> None:
        self._request, self._decision, self._trace, self._engine = request, decision, trace, engine
        self._table: ItemTable = engine.sources.table
        moment = Moment(from_ms(request.at_ms), request.segments, request.surface, request.channel, request.context)
        self._rules = [rule for rule in rules if rule.holds(moment)]
        # The shown ones come first; everything else keeps the order that it had before.
        final = [*trace.explored.tolist(), *(_without(trace.ruled, trace.explored))]
        self._stages = {
            "blend": _places(trace.row_C.tolist()),
            "diversify": _places(trace.diversified.tolist()),
            "rules": _places(trace.ruled.tolist()),
            "final": _places(final),
        }
        self._length = len(decision.items)

    def shown(self) -> list[ShownItem]:
        rows = self._trace.explored
        scores = self._model_scores(rows)
        return [
            ShownItem(
                item_id=item.item_id,
                position=position,
                source=item.source,
                source_ranks=self._ranks(row),
                score=item.score,
                model_score=score,
                places={name: place_of[row] for name, place_of in self._stages.items() if row in place_of},
                rules=item.rules,
                propensity=item.propensity,
                reasons=item.reasons,
            )
            for position, (item, row, score) in enumerate(
                zip(self._decision.items, rows.tolist(), scores, strict=True), start=1
            )
        ]

    def removed(self) -> dict[str, int]:
        table, base_T = self._table, self._engine.masks.base.mask_T
        allowed_T = self._engine.masks.of(self._request.filter).mask_T
        counts = {
            "unavailable": int((~table.available_T).sum()),
            "the pipeline's filter": int((table.available_T & ~base_T).sum()),
            "the request's filter": int((base_T & ~allowed_T).sum()),
            **Counter(self._trace.excluded_T.values()),
            **{f"rule {rule.name}": int((allowed_T & barred_T).sum()) for rule, barred_T in self._gates()},
        }
        return {name: count for name, count in counts.items() if count}

    def not_shown(self, item_id: ItemId) -> NotShown:
        row = self._table.items.row(item_id)
        if row is None:
            return NotShown(item_id, "unknown_item", "neither a model nor the catalog named it")
        if (place := self._stages["final"].get(row)) is not None and place <= self._length:
            return NotShown(item_id, "shown", f"it was shown at position {place}", place, self._ranks(row))
        reason, detail = self._why_not(row)
        return NotShown(item_id, reason, detail, place, self._ranks(row))

    def _why_not(self, row: int) -> tuple[str, str]:
        if not self._table.available_T[row]:
            return "unavailable", "it was not available"
        if not self._engine.masks.base.mask_T[row]:
            return "filtered", f"the pipeline's filter does not hold for it: {self._engine.pipeline.filter}"
        wanted = self._request.filter
        if wanted is not None and not self._engine.masks.of(wanted).mask_T[row]:
            return "filtered", f"the request's filter does not hold for it: {wanted.expression.text}"
        if row in self._trace.excluded_T:
            return "excluded", self._trace.excluded_T[row] + self._last_bought(row)
        for rule, barred_T in self._gates():
            if barred_T[row]:
                return "rule", f"rule {rule.name} lets nobody see it"
        return self._ranked(row)

    def _gates(self) -> list[tuple[Rule, BoolArray]]:
        """Return the rules in force that keep items away altogether, each with those items."""
        gates = [(rule, rule.filter.mask(self._table)) for rule in self._rules if rule.is_gate and rule.filter]
        return [(rule, ~mask_T if isinstance(rule.action, Require) else mask_T) for rule, mask_T in gates]

    def _caps(self, row: int) -> list[str]:
        """Return the caps in force that count an item."""
        caps = [rule for rule in self._rules if isinstance(rule.action, Cap)]
        return [rule.name for rule in caps if rule.filter is None or rule.filter.mask(self._table)[row]]

    def _ranked(self, row: int) -> tuple[str, str]:
        places = {name: place_of[row] for name, place_of in self._stages.items() if row in place_of}
        if "final" not in places:
            if not places:
                return "not_a_candidate", "no source named it"
            return "rule", f"too much of its kind was left out, by {' or '.join(self._caps(row)) or 'a rule'}"
        stage = self._lost_in(places)
        moved = "" if stage is None else f"; {stage}"
        return "ranked", f"it was ranked {_ordinal(places['final'])} of {len(self._stages['final'])}{moved}"

    def _lost_in(self, places: Mapping[str, int]) -> str | None:
        """Return what moved an item out of the list that had a place in it."""
        said = {
            "diversify": "diversification moved it down from {}",
            "rules": "rules and promotions moved it down from {}",
            "final": "exploration gave its place {} away",
        }
        for before, stage in pairwise(self._stages):
            was, now = places.get(before), places.get(stage)
            if was is not None and now is not None and was <= self._length < now:
                return said[stage].format(was)
        return None

    def _last_bought(self, row: int) -> str:
        item_id = self._table.items.ids[row]
        times = [
            line.at_ms
            for line in self._request.recent
            if line.item_id == item_id and line.interaction == InteractionType.PURCHASE
        ]
        if not times or not self._trace.excluded_T[row].startswith("bought"):
            return ""
        return f": last bought {max(self._request.at_ms - max(times), 0) // DAY_MS} days ago"

    def _ranks(self, row: int) -> dict[str, int]:
        place = self._stages["blend"].get(row)
        if place is None:
            return {}
        ranks = self._trace.rank_CS[place - 1].tolist()
        return {name: rank + 1 for name, rank in zip(self._trace.source_names, ranks, strict=True) if rank != NO_RANK}

    def _model_scores(self, rows: RowArray) -> list[float | None]:
        model = self._engine.sources.model
        if model is None or not len(rows):
            return [None] * len(rows)
        try:
            scores = model.scores(history_of(self._request), rows)
        except (ArithmeticError, ValueError, IndexError):
            return [None] * len(rows)
        return [float(score) if np.isfinite(score) else None for score in scores]


def _without(rows: RowArray, others: RowArray) -> list[int]:
    """Return ``rows`` without ``others``, in their order."""
    return [int(row) for row in rows[~np.isin(rows, others)]]


def _places(rows: Sequence[int]) -> dict[int, int]:
    return {row: place for place, row in enumerate(rows, start=1)}


def _ordinal(number: int) -> str:
    """Return a place in words.

    >>> [_ordinal(number) for number in (1, 2, 11, 23, 57)]
    ['1st', '2nd', '11th', '23rd', '57th']
    """
    last = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"
