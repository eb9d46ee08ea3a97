"""Candidates: each source of the pipeline names its best, until the list can be filled or the time is up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bespoke.clock import DAY_MS
from bespoke.events import InteractionType
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Basis
from bespoke.models.history import History, LineColumns
from bespoke.models.index import EMPTY
from bespoke.models.retrieval import Retrieved
from bespoke.profiles import Recent
from bespoke.recommend.blending import Drawn
from bespoke.recommend.placed import NOTHING, Allowed, PlacedModel
from bespoke.recommend.request import MODEL_FAILED, NO_MODEL, Question, Request
from bespoke.recommend.settings import SourceKind, SourceSettings
from bespoke.recommend.sources import Sources

SLACK = 30
"""At least so many candidates more than were asked for, so that later stages have something to choose from."""
LATEST_LINES = 50
CATEGORIES = 3
"""Of so many categories comes what is popular in the person's categories."""
CATEGORY_HALF_LIFE_MS = 14.0 * DAY_MS
FALLBACK_WEIGHT = 1e-3
"""What the first fallback weighs; each after it a hundredth of the one before, so that they stay in order."""

SOURCE_OF_BASIS = {Basis.PERSON: "personal", Basis.RECENT_ITEMS: "recent_items", Basis.POPULARITY: "popular"}
"""How answers call the variant's model: by what it knows."""
FAILURES = (ArithmeticError, ValueError, IndexError)
"""What one person's own numbers can make a model raise."""


@dataclass
class Draw:
    """The candidates of one request, as they come in."""

    request: Request
    sources: Sources
    allowed: Allowed
    excluded_T: RowArray
    drawn: list[Drawn]
    skipped: list[str]
    degraded: str | None
    _taken_of: tuple[int, RowArray] = (-1, EMPTY)
    """How many sources had been drawn from when this was put together, and what they named."""

    @cached_property
    def history(self) -> History:
        """What models may know of the person; made once, so that they share what they look up."""
        return history_of(self.request)

    @property
    def found(self) -> int:
        """How many candidates there are, at least."""
        return len(self._taken()) - len(self.excluded_T)

    def suffices(self, wanted: int) -> bool:
        """Return whether there are so many candidates."""
        # Mostly one source has named as many already, and nothing needs to be counted.
        return any(len(one.found) >= wanted for one in self.drawn) or self.found >= wanted

    def add(self, settings: SourceSettings) -> None:
        """Ask one source of the pipeline."""
        leads = settings.kind is SourceKind.MODEL
        exclude_T = self._taken() if settings.fill else self.excluded_T
        try:
            name, found = self._ask(settings, exclude_T)
        except FAILURES:
            self._fail(settings.name, leads=leads)
            return
        if not np.isfinite(found.score_K).all() or (leads and name != NO_MODEL and self._should_find(found)):
            self._fail(settings.name, leads=leads)
        elif len(found.row_K):
            self.drawn.append(Drawn(name, settings.weight, found, leads=leads))

    def add_fallbacks(self, wanted: int) -> None:
        """Fill up from the lists that are the same for everybody."""
        weight = FALLBACK_WEIGHT
        for ranked in self.sources.fallbacks:
            if self.suffices(wanted):
                return
            found = ranked.take(k=wanted - self.found, allowed=self.allowed, exclude_T=self._taken())
            if len(found.row_K):
                self.drawn.append(Drawn(ranked.name, weight, found))
            weight /= 100

    def scored(self, rows: RowArray, history: History) -> FloatArray:
        """Return finite scores of the given rows by the variant's model; what it does not know comes last, as given."""
        in_order = -np.arange(len(rows), dtype=np.float32)
        if self.sources.model is None:
            self.degraded = self.degraded or NO_MODEL
            return in_order
        try:
            scores = self.sources.model.scores(history, rows)
        except FAILURES:
            scores = np.full(len(rows), np.nan, dtype=np.float32)
        known = np.isfinite(scores)
        if np.isnan(scores).any():
            self._fail(SourceKind.MODEL.value, leads=True)
            return in_order
        if not known.any():
            return in_order
        return np.where(known, scores, scores[known].min() - 1 + in_order).astype(np.float32)

    def _ask(self, settings: SourceSettings, exclude_T: RowArray) -> tuple[str, Retrieved]:
        if settings.kind is SourceKind.POPULAR_IN_CATEGORY:
            return settings.name, self._in_categories(settings.budget, exclude_T)
        if settings.kind is SourceKind.POPULAR_IN_SEGMENT:
            return settings.name, self._in_segments(settings.budget, exclude_T)
        if settings.kind is SourceKind.POPULAR or self.request.question is Question.TRENDING:
            trending = self.sources.trending if self.request.question is Question.TRENDING else None
            popular = trending or self.sources.popular
            found = (
                NOTHING
                if popular is None
                else popular.take(k=settings.budget, allowed=self.allowed, exclude_T=exclude_T)
            )
            return SourceKind.POPULAR.value, found
        leads = settings.kind is SourceKind.MODEL
        placed = self.sources.model if leads else self.sources.pointed.get(settings.pointer or "")
        if placed is None:
            if leads:
                self.degraded = self.degraded or NO_MODEL
            return NO_MODEL if leads else settings.name, NOTHING
        return self._of_model(placed, settings, exclude_T)

    def _of_model(self, placed: PlacedModel, settings: SourceSettings, exclude_T: RowArray) -> tuple[str, Retrieved]:
        leads, request = settings.kind is SourceKind.MODEL, self.request
        if request.question is Question.SIMILAR:
            row = None if request.item_id is None else self.sources.table.items.row(request.item_id)
            found = (
                NOTHING
                if row is None
                else placed.similar(row, k=settings.budget, allowed=self.allowed, exclude_T=exclude_T)
            )
            return "similar" if leads else settings.name, found
        history = self.history
        found = placed.retrieve(history, k=settings.budget, allowed=self.allowed, exclude_T=exclude_T)
        return SOURCE_OF_BASIS[placed.model.basis(history)] if leads else settings.name, found

    def _should_find(self, found: Retrieved) -> bool:
        """Return whether the variant's model named nothing although it could have."""
        return (
            not len(found.row_K)
            and self.request.question is Question.PERSON
            and self.sources.model_can(self.allowed, self.excluded_T)
        )

    def _in_categories(self, budget: int, exclude_T: RowArray) -> Retrieved:
        from bespoke.recommend.kernels import permitted

        lists = self.sources.in_category
        codes = [] if lists is None else self._categories()
        if lists is None or not codes:
            return NOTHING
        each = -(-budget // len(codes))
        # Of a long list of what may not come, no more than its first rows are looked at.
        of_each = [lists.of_category(code)[: each + len(exclude_T) + 64] for code in codes]
        kept = [row_N[permitted(row_N, self.allowed.mask_T, exclude_T, each)] for row_N in of_each]
        return interleaved(kept, k=budget)

    def _in_segments(self, budget: int, exclude_T: RowArray) -> Retrieved:
        # A list that is the same for everybody knows no segments.
        own = () if self.request.question is Question.TRENDING else sorted(self.request.segments)
        lists = [self.sources.in_segment[segment] for segment in own if segment in self.sources.in_segment]
        kept = [ranked.take(k=budget, allowed=self.allowed, exclude_T=exclude_T).row_K for ranked in lists]
        return interleaved(kept, k=budget)

    def _categories(self) -> list[int]:
        """Return the narrowest categories of the latest lines, those that weigh most first."""
        from bespoke.recommend.kernels import weightiest

        table, request = self.sources.table, self.request
        if request.item_id is not None and request.question is Question.SIMILAR:
            row = table.items.row(request.item_id)
            code = -1 if row is None else int(table.narrowest_T[row])
            return [code] if code >= 0 else []
        columns = self.history.columns
        row_N, at_ms_N = columns.rows(table.items)[-LATEST_LINES:], columns.at_ms_N[-LATEST_LINES:]
        code_G = weightiest(row_N, at_ms_N, table.narrowest_T, request.at_ms, CATEGORY_HALF_LIFE_MS, CATEGORIES)
        codes: list[int] = code_G.tolist()
        return codes

    def _taken(self) -> RowArray:
        """Return what was drawn or may not come [N], ascending."""
        if self._taken_of[0] != len(self.drawn):
            parts = [self.excluded_T, *(one.found.row_K for one in self.drawn)]
            self._taken_of = len(self.drawn), np.unique(np.concatenate(parts))
        return self._taken_of[1]

    def _fail(self, name: str, *, leads: bool) -> None:
        self.skipped.append(f"candidates:{name}")
        if leads:
            self.degraded = self.degraded or MODEL_FAILED


def draw(
    request: Request,
    *,
    sources: Sources,
    allowed: Allowed,
    excluded_T: RowArray,
    settings: tuple[SourceSettings, ...],
    late: Callable[[], bool],
) -> Draw:
    """Ask the sources in their order; what is not begun in time is skipped and named.

    Args:
        request: who asks.
        sources: what can be asked.
        allowed: what may come.
        excluded_T: rows that this person does not get.
        settings: the pipeline's sources.
        late: says whether the stage has had its time.
    """
    wanted = request.num_results + SLACK
    state = Draw(request, sources, allowed, excluded_T, [], [], request.degraded)
    for source in settings:
        if source.fill and state.suffices(wanted):
            continue
        name = f"candidates:{source.name}"
        # The first one is begun in any case: without candidates there is no list.
        if name in request.skip or (state.drawn and late()):
            state.skipped.append(name)
        else:
            state.add(source)
    state.add_fallbacks(wanted)
    return state


def interleaved(lists: Sequence[RowArray], *, k: int) -> Retrieved:
    """Return the first of each list, then the second of each, and so on: ``k`` rows at most, each once.

    >>> interleaved([np.array([7, 8, 9], dtype=np.int32), np.array([8, 5], dtype=np.int32)], k=4).row_K.tolist()
    [7, 8, 5, 9]
    """
    from bespoke.recommend import kernels

    if not lists:
        return NOTHING
    start_S1 = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(row_N) for row_N in lists], out=start_S1[1:])
    row_K = kernels.interleaved(np.concatenate(lists), start_S1, k)
    return Retrieved(row_K, (1.0 / np.arange(1, len(row_K) + 1)).astype(np.float32))


def history_of(request: Request) -> History:
    """Return what models may know of the person: the item that is looked at counts as viewed now."""
    recent = request.recent
    if request.item_id is not None and request.question is not Question.SIMILAR:
        recent = (*recent, Recent(request.at_ms, request.item_id, InteractionType.VIEW.value, 1.0))
    return History(request.user_id, recent, request.at_ms, shared=LineColumns(recent))
