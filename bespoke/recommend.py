"""Recommendations: one request as a list of steps over a frozen state.

Candidates come from a ladder of rungs, best first: what the model knows of the person, what it makes of recent items,
what is popular in the window, the bundle's own popular list, the rest of the catalog. A lower rung fills the places
that the higher ones leave empty. A step takes the state and returns the next one; :data:`STEPS` is their order, and a
new behaviour is a new function in that list.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from bespoke.clock import DAY_MS
from bespoke.events import InteractionType, ItemId, UserId
from bespoke.models.base import Basis, FloatArray, History, Model, RowArray, Vocabulary
from bespoke.models.bundle import Bundle
from bespoke.models.index import top_k
from bespoke.profiles import Recent

POOL = 100
"""At least so many candidates are ranked, so that later steps have something to choose from."""

FEATURES_UNAVAILABLE = "features_unavailable"
FEATURES_STALE = "features_stale"
"""What is known of the person is too old to be used."""
NO_MODEL = "no_model"
MODEL_FAILED = "model_failed"


class Source(StrEnum):
    """The rung of the ladder that a recommended item comes from."""

    PERSONAL = "personal"
    RECENT_ITEMS = "recent_items"
    POPULAR = "popular"
    BUNDLED_POPULAR = "bundled_popular"
    CATALOG = "catalog"


SOURCE_OF_BASIS: Mapping[Basis, Source] = {
    Basis.PERSON: Source.PERSONAL,
    Basis.RECENT_ITEMS: Source.RECENT_ITEMS,
    Basis.POPULARITY: Source.POPULAR,
}

REASON_OF_SOURCE: Mapping[Source, str] = {
    Source.PERSONAL: "fits what you like",
    Source.RECENT_ITEMS: "fits what you looked at or bought lately",
    Source.POPULAR: "popular now",
    Source.BUNDLED_POPULAR: "popular",
    Source.CATALOG: "in the catalog",
}

DONE: Mapping[str, str] = {
    InteractionType.VIEW.value: "viewed",
    InteractionType.CLICK.value: "clicked",
    InteractionType.ADD_TO_CART.value: "put into the cart",
    InteractionType.ADD_TO_WISHLIST.value: "put on the wish list",
    InteractionType.PURCHASE.value: "bought",
}
"""How reasons word an interaction; the others are no reason to recommend."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, with what is known of the person."""

    user_id: UserId | None
    at_ms: int
    num_results: int = 20
    recent: tuple[Recent, ...] = ()
    """The person's newest lines, oldest first, as in the profile."""
    item_id: ItemId | None = None
    """The item that is being looked at: it counts as viewed now and is left out of the answer."""
    exclude: frozenset[ItemId] = frozenset()
    exclude_seen: bool = False
    """Leave out every item of ``recent``."""
    degraded: str | None = None
    """What already went wrong, such as FEATURES_UNAVAILABLE."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """One item of the answer."""

    item_id: ItemId
    score: float
    """Comparable within one source only."""
    source: Source
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer."""

    items: tuple[Recommended, ...]
    degraded: str | None
    """Why the answer is worse than it should be, or None."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One source's scores over its items."""

    source: Source
    vocabulary: Vocabulary[ItemId]
    scores_I: FloatArray
    blocked: RowArray
    """Rows of items that are not available."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What recommendations can come from; made once per loaded version by :meth:`of`, shared by all requests."""

    model: Model | None = None
    blocked: RowArray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """Rows of the model's items that are not available."""
    fallbacks: tuple[Rung, ...] = ()
    """The rungs below the model, the same for everybody."""

    @classmethod
    def of(
        cls, bundle: Bundle | None, *, popularity: Bundle | None = None, unavailable: Set[ItemId] = frozenset()
    ) -> "Sources":
        """Put together the sources of one version.

        Args:
            bundle: the version; None leaves the fallbacks only.
            popularity: a bundle whose model counts popularity in the window.
            unavailable: items that may not be shown, besides those whose metadata says so.
        """
        bundles = [loaded for loaded in (bundle, popularity) if loaded is not None]
        items = {id: item for loaded in reversed(bundles) for id, item in loaded.items.items()}
        barred = {id for id, item in items.items() if not item.available} | set(unavailable)
        rungs = [_popular_rung(loaded, barred) for loaded in (popularity,) if loaded is not None]
        rungs += [_list_rung(Source.BUNDLED_POPULAR, loaded.popular, barred) for loaded in bundles]
        rungs.append(_list_rung(Source.CATALOG, tuple(items), barred))
        model = None if bundle is None else bundle.model
        blocked = _blocked(model.vocabulary, barred) if model is not None else np.zeros(0, dtype=np.int32)
        return cls(model, blocked, tuple(rungs))


@dataclass(frozen=True, slots=True)
class State:
    """A request on its way through the steps."""

    request: Request
    sources: Sources
    rungs: tuple[Rung, ...] = ()
    excluded: frozenset[ItemId] = frozenset()
    ranked: tuple[Recommended, ...] = ()
    """Best first; more than asked for until :func:`cut`."""
    degraded: str | None = None


Step = Callable[[State], State]


def score(state: State) -> State:
    """Score the model's items for the person, and set the ladder up below."""
    model, request, fallbacks = state.sources.model, state.request, state.sources.fallbacks
    if model is None:
        return replace(state, rungs=fallbacks, degraded=state.degraded or NO_MODEL)
    history = _history(request)
    try:
        scores_I, basis = model.scores(history), model.basis(history)
    except (ArithmeticError, ValueError):
        # A person's own numbers can break a solve; the answer then says so and comes from the rungs below.
        return replace(state, rungs=fallbacks, degraded=state.degraded or MODEL_FAILED)
    if not np.isfinite(scores_I).all():
        return replace(state, rungs=fallbacks, degraded=state.degraded or MODEL_FAILED)
    rung = Rung(SOURCE_OF_BASIS[basis], model.vocabulary, scores_I, state.sources.blocked)
    return replace(state, rungs=(rung, *fallbacks))


def exclude(state: State) -> State:
    """Collect the items that may not come: those named, the one being looked at, those seen where asked."""
    request = state.request
    seen = {entry.item_id for entry in request.recent} if request.exclude_seen else set()
    looked_at = set() if request.item_id is None else {request.item_id}
    return replace(state, excluded=state.excluded | request.exclude | looked_at | seen)


def rank(state: State) -> State:
    """Take the best items rung by rung until there are enough."""
    wanted = max(POOL, state.request.num_results)
    ranked: list[Recommended] = []
    taken = set(state.excluded)
    for rung in state.rungs:
        if len(ranked) >= wanted:
            break
        best = _best(rung, k=wanted - len(ranked), taken=taken)
        ranked += best
        taken.update(item.item_id for item in best)
    return replace(state, ranked=tuple(ranked))


def cut(state: State) -> State:
    """Keep as many as were asked for."""
    return replace(state, ranked=state.ranked[: state.request.num_results])


def explain(state: State) -> State:
    """Say of each item why it is there."""
    wanted = {item.item_id for item in state.ranked}
    own: dict[ItemId, list[Recent]] = {}
    for entry in state.request.recent:
        if entry.item_id in wanted and entry.interaction in DONE:
            own.setdefault(entry.item_id, []).append(entry)
    reasoned = [
        replace(item, reasons=_reasons(item, own.get(item.item_id, ()), at_ms=state.request.at_ms))
        for item in state.ranked
    ]
    return replace(state, ranked=tuple(reasoned))


STEPS: tuple[Step, ...] = (score, exclude, rank, cut, explain)


def recommend(request: Request, *, sources: Sources, steps: Sequence[Step] = STEPS) -> Decision:
    """Answer one request. It always has ``num_results`` items if the catalog holds so many that may be shown."""
    state = State(request, sources, degraded=request.degraded)
    for step in steps:
        state = step(state)
    return Decision(state.ranked, state.degraded)


def _history(request: Request) -> History:
    recent = request.recent
    if request.item_id is not None:
        recent = (*recent, Recent(request.at_ms, request.item_id, InteractionType.VIEW.value, 1.0))
    return History(request.user_id, recent, request.at_ms)


def _best(rung: Rung, *, k: int, taken: Set[ItemId]) -> list[Recommended]:
    taken_rows = rung.vocabulary.rows(taken)
    barred = np.concatenate([rung.blocked, taken_rows[taken_rows >= 0]])
    ids = rung.vocabulary.ids
    return [
        Recommended(ids[row], float(rung.scores_I[row]), rung.source)
        for row in top_k(rung.scores_I, k=k, exclude=barred)
    ]


def _reasons(item: Recommended, own: Sequence[Recent], *, at_ms: int) -> tuple[str, ...]:
    """Return what the person did with the item, the strongest kind of it, or else the source's reason."""
    if not own:
        return (REASON_OF_SOURCE[item.source],)
    kinds = {entry.interaction for entry in own}
    kind = next(kind for kind in reversed(tuple(DONE)) if kind in kinds)
    times = [entry.at_ms for entry in own if entry.interaction == kind]
    days = max(at_ms - max(times), 0) // DAY_MS
    return (f"{DONE[kind]} {_counted(len(times), 'time')}, last {_counted(days, 'day')} ago",)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _popular_rung(bundle: Bundle, barred: Set[ItemId]) -> Rung:
    model = bundle.model
    return Rung(Source.POPULAR, model.vocabulary, model.popularity_I, _blocked(model.vocabulary, barred))


def _list_rung(source: Source, ids: Sequence[ItemId], barred: Set[ItemId]) -> Rung:
    """Return a rung of ids without scores of their own: one over the place in the list."""
    vocabulary = Vocabulary(ids)
    scores_I = (1.0 / np.arange(1, len(ids) + 1)).astype(np.float32)
    return Rung(source, vocabulary, scores_I, _blocked(vocabulary, barred))


def _blocked(vocabulary: Vocabulary[ItemId], barred: Set[ItemId]) -> RowArray:
    rows = vocabulary.rows(barred)
    return rows[rows >= 0]
