"""The engine: one pipeline over one variant's sources. It answers a request in stages, in one thread.

draw candidates, filtered -> blend -> diversify -> rules -> promotions -> explore -> explain
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Self

import numpy as np
import numpy.typing as npt

from bespoke.clock import from_ms
from bespoke.expressions import parse_expression
from bespoke.models.arrays import RowArray
from bespoke.models.retrieval import Retrieved
from bespoke.profiles import Recent
from bespoke.recommend.blending import Blended, Drawn, blend
from bespoke.recommend.candidates import Draw, draw
from bespoke.recommend.diversity import diversify
from bespoke.recommend.explaining import by_place, reasons
from bespoke.recommend.exploration import Explored, explore
from bespoke.recommend.filtering import Excluded, Masks, excluded
from bespoke.recommend.placed import Allowed, BoolArray, PlacedModel
from bespoke.recommend.promoting import Promoted, promote
from bespoke.recommend.request import Decision, Promotion, Question, Recommended, Request, RuleCount
from bespoke.recommend.settings import Pipeline
from bespoke.recommend.sources import Sources
from bespoke.recommend.timing import NEVER_LATE, Stopwatch
from bespoke.recommend.trace import Trace
from bespoke.rules import Moment, Rule, RuleBook, Ruled

DIVERSIFY = "diversify"
MOST_PROMOTED = 100
"""So many popular items stand by for a promotion, besides candidates."""

PlaceArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Made:
    """A list on its way: what each stage made of it."""

    drawn: Draw
    blended: Blended
    diversified: PlaceArray
    ruled: Ruled
    promoted: Promoted


@dataclass(frozen=True)
class Engine:
    """Immutable, so threads may share it."""

    pipeline: Pipeline
    sources: Sources
    masks: Masks
    book: RuleBook
    vectors: PlacedModel | None
    """Whose item vectors tell how alike items are."""

    @classmethod
    def of(
        cls,
        sources: Sources,
        *,
        pipeline: Pipeline | None = None,
        rules: Sequence[Rule] = (),
        book: RuleBook | None = None,
    ) -> Self:
        """Put an engine together. The first of a process loads the compiled part, so that no request waits for it.

        Args:
            sources: what candidates come from.
            pipeline: the default one where None.
            rules: business rules.
            book: the same, where they were looked up in ``sources.table`` before.
        """
        import_module("bespoke.recommend.kernels")
        pipeline = pipeline or Pipeline()
        table = sources.table
        mask_T = table.available_T
        if pipeline.filter is not None:
            mask_T = mask_T & parse_expression(pipeline.filter).mask(table)
        placed = [sources.model, *(sources.pointed[name] for name in pipeline.pointers if name in sources.pointed)]
        vectors = next((one for one in placed if one is not None and one.points is not None), None)
        return cls(pipeline, sources, Masks(table, Allowed(mask_T)), book or RuleBook.of(rules, table), vectors)

    def recommend(self, request: Request, *, timer: Callable[[], float] = time.perf_counter) -> Decision:
        """Answer one request. It has ``num_results`` items if the catalog holds so many that may come.

        Args:
            request: what is asked. The same request has the same answer, but for what is skipped because it is late.
            timer: tells seconds that pass.

        Raises:
            ExpressionError: a parameter of a filter has no value.
        """
        watch = Stopwatch(timer)
        with watch.stage("filter"):
            allowed = self.masks.of(request.filter)
            barred = excluded(request, self.pipeline, self.sources.table, rebuys=self.masks.rebuys)
        moment = Moment(from_ms(request.at_ms), request.segments, request.surface, request.channel, request.context)
        made = self._made(request, allowed, barred, moment, watch)
        taken = [one for one in made.ruled.applied if one.rule in self.book.gates]
        if taken and len(made.promoted.row_K) < request.num_results:
            # Rules took away so much that the list is short: what they leave is asked for alone. What was late is left
            # out again, and nothing else: so a repeated decision takes the same way.
            again = replace(request, skip=request.skip | frozenset(made.drawn.skipped))
            rest = Allowed(allowed.mask_T & ~self._barred(moment))
            left = self._made(again, rest, barred, moment, watch, deadlines=False)
            made = replace(left, ruled=replace(left.ruled, applied=(*taken, *left.ruled.applied)))
        with watch.stage("explore"):
            explored = explore(
                len(made.promoted.row_K),
                num_results=request.num_results,
                pinned=made.promoted.pinned_K,
                settings=self.pipeline.exploration,
                seed=request.seed,
            )
        with watch.stage("explain"):
            items = self._explain(request, made, explored)
        drawn, blended, row_K = made.drawn, made.blended, made.promoted.row_K
        trace = Trace(
            source_names=blended.sources,
            row_C=blended.row_C,
            score_C=blended.score_C,
            rank_CS=blended.rank_CS,
            excluded_T=barred.reason_of,
            diversified=blended.row_C[made.diversified],
            ruled=row_K,
            explored=row_K[explored.place_K],
        )
        skipped = tuple(dict.fromkeys(drawn.skipped))
        counts = tuple(RuleCount(one.rule, one.items, one.cost) for one in made.ruled.applied)
        return Decision(items, drawn.degraded, skipped, counts, tuple(watch.stages), trace)

    def _made(
        self,
        request: Request,
        allowed: Allowed,
        barred: Excluded,
        moment: Moment,
        watch: Stopwatch,
        *,
        deadlines: bool = True,
    ) -> "_Made":
        """Go through the stages from candidates to promotions."""
        with watch.stage("candidates"):
            drawn = self._draw(request, allowed, barred, watch if deadlines else NEVER_LATE)
        with watch.stage("blend"):
            blended = blend(drawn.drawn, self.pipeline.blend)
        with watch.stage(DIVERSIFY):
            diversified = self._diversify(request, blended, drawn, watch if deadlines else NEVER_LATE)
        with watch.stage("rules"):
            ruled, promoted = self._rule(request, blended, diversified, drawn, moment)
        return _Made(drawn, blended, diversified, ruled, promoted)

    def _draw(self, request: Request, allowed: Allowed, barred: Excluded, watch: Stopwatch) -> Draw:
        if request.question is Question.RANK:
            return self._listed(request, allowed, barred)
        return draw(
            request,
            sources=self.sources,
            allowed=allowed,
            excluded_T=barred.rows,
            settings=self.pipeline.sources,
            late=lambda: watch.late(self.pipeline.deadlines.candidates_ms),
        )

    def _listed(self, request: Request, allowed: Allowed, barred: Excluded) -> Draw:
        """Return the caller's own list as candidates, scored by the variant's model."""
        row_N = self.sources.table.items.rows(dict.fromkeys(request.rank))
        row_N = row_N[row_N >= 0]
        row_N = row_N[allowed.mask_T[row_N] & ~np.isin(row_N, barred.rows)]
        state = Draw(request, self.sources, allowed, barred.rows, [], [], request.degraded)
        if not len(row_N):
            return state
        score_N = state.scored(row_N, state.history)
        order_N = np.argsort(-score_N, kind="stable")
        state.drawn.append(Drawn("ranked", 1.0, Retrieved(row_N[order_N], score_N[order_N]), leads=True))
        return state

    def _diversify(self, request: Request, blended: Blended, drawn: Draw, watch: Stopwatch) -> PlaceArray:
        """Return the places of the blended candidates in a diverse order."""
        settings, everything = self.pipeline.diversity, np.arange(len(blended.row_C))
        if not settings.active or request.question is Question.RANK:
            return everything
        if DIVERSIFY in request.skip:
            drawn.skipped.append(DIVERSIFY)
            return everything
        pool = max(settings.pool, request.num_results)
        row_M, table = blended.row_C[:pool], self.sources.table
        order_M = diversify(
            blended.score_C[:pool],
            num_results=request.num_results,
            settings=settings,
            vector_MD=None if self.vectors is None else self.vectors.directions(row_M),
            category_M=table.narrowest_T[row_M],
            brand_M=table.brand_T[row_M],
            late=lambda: watch.late(self.pipeline.deadlines.diversify_ms),
        )
        if order_M is None:
            drawn.skipped.append(DIVERSIFY)
            return everything
        return np.concatenate([order_M, everything[len(order_M) :]])

    def _rule(
        self, request: Request, blended: Blended, diversified: PlaceArray, drawn: Draw, moment: Moment
    ) -> tuple[Ruled, Promoted]:
        row_C, score_C = blended.row_C[diversified], blended.score_C[diversified]
        may_T = drawn.allowed.mask_T
        if request.question is Question.RANK:
            may_T = np.zeros_like(may_T)
            may_T[row_C] = True
        elif len(drawn.excluded_T):
            may_T = may_T.copy()
            may_T[drawn.excluded_T] = False
        ruled = self.book.apply(row_C, score_C, moment=moment, num_results=request.num_results, allowed_T=may_T)
        promotions = [(one.name, one.share, self._promotable(one, ruled, may_T, moment)) for one in request.promotions]
        promoted = promote(ruled.row_C, pinned_C=ruled.pinned_C, promotions=promotions, num_results=request.num_results)
        return ruled, promoted

    def _promotable(self, promotion: Promotion, ruled: Ruled, may_T: BoolArray, moment: Moment) -> RowArray:
        """Return what a promotion may show, best first: candidates, then what is popular."""
        mask_T = promotion.filter.expression.mask(self.sources.table, promotion.filter.values)
        known = ruled.row_C[mask_T[ruled.row_C]]
        if self.sources.popular is None:
            return known
        mask_T &= may_T & ~self._barred(moment)
        more = self.sources.popular.take(k=MOST_PROMOTED, allowed=Allowed(mask_T), exclude_T=known)
        return np.concatenate([known, more.row_K])

    def _own_lines(self, request: Request, made: "_Made", row_K: RowArray) -> dict[int, list[Recent]]:
        """Return the person's lines about the items of the list that are reasons, by the item's place."""
        from bespoke.recommend.kernels import places_of

        shared = made.drawn.history.shared
        if shared is None or not len(row_K) or not request.recent:
            return {}
        # The item that is looked at may stand behind them.
        place_N = places_of(shared.rows(self.sources.table.items)[: len(request.recent)], row_K)
        line_L = np.flatnonzero(place_N >= 0)
        return by_place((request.recent[line] for line in line_L.tolist()), place_N[line_L].tolist())

    def _barred(self, moment: Moment) -> BoolArray:
        """Return which items rules let nobody see now."""
        barred_T = self.book.barred(moment)
        return np.zeros(len(self.sources.table), dtype=bool) if barred_T is None else barred_T

    def _explain(self, request: Request, made: "_Made", explored: Explored) -> tuple[Recommended, ...]:
        from bespoke.recommend.kernels import places_of

        blended, ruled, name_of = made.blended, made.ruled, made.promoted.name_of
        ids, row_K = self.sources.table.items.ids, made.promoted.row_K[explored.place_K]
        own, items = self._own_lines(request, made, row_K), []
        places = zip(
            row_K.tolist(),
            places_of(row_K, blended.row_C).tolist(),
            places_of(row_K, ruled.row_C).tolist(),
            explored.propensity_K.tolist(),
            strict=True,
        )
        for place, (row, candidate, after_rules, propensity) in enumerate(places):
            rules = ruled.rule_C[after_rules] if after_rules >= 0 else ()
            if row in name_of:
                rules = (*rules, name_of[row])
            source, score = "rule", 0.0
            if candidate >= 0:
                source, score = blended.sources[blended.best_C[candidate]], blended.score_C.item(candidate)
            why = reasons(source, own.get(place, ()), at_ms=request.at_ms)
            items.append(Recommended(ids[row], score, source, why, propensity, rules))
        return tuple(items)
