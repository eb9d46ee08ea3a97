"""The recommender: one request is one read of the person's state, one decision in this process, and one exposure."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import ConfigError, NotFound
from bespoke.events import ItemId
from bespoke.experiments import PLAIN, Placement, Variant, unit_ids
from bespoke.recommend import MODEL_FAILED, Decision, Engine, Request
from serving.answers import Answer
from serving.asking import Ask
from serving.assignments import Assignments
from serving.decisions import DecisionRecord
from serving.errors import RequestError
from serving.exposures import ExposureWriter
from serving.isolated import UNAVAILABLE, AskApart, asked_apart
from serving.logs import place_of
from serving.metrics import Metrics
from serving.people import PeopleReader, PersonState
from serving.recommendation_forms import AskedList
from serving.served_events import served, shadowed
from serving.snapshot import Choice, ServedModel, Snapshot
from serving.version_health import VersionHealth
from storage.serving_state import Shown

logger = logging.getLogger(__name__)

NO_MODEL = ""
"""Names no model: its engine answers from the fallbacks alone."""
READ = "features"
ELSEWHERE = ServedModel("another process", None)
"""Stands for the model of a variant that has a process of its own."""
MAX_SHADOWS = 20
"""So many shadow lists are computed at once, so that they never hold up answers."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What takes note of answers, none of which may hold one up."""

    exposures: ExposureWriter
    assignments: Assignments
    health: VersionHealth
    metrics: Metrics


class Recommender:
    """Answers requests from the snapshot in use and the person's state, and writes down what it showed."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        people: PeopleReader,
        beside: Beside,
        *,
        threads: ThreadPoolExecutor,
        ask_apart: AskApart | None = None,
    ) -> None:
        """Answer from what is given.

        Args:
            snapshot: returns the snapshot in use.
            people: reads the state of persons.
            beside: takes note of answers.
            threads: where shadows are computed.
            ask_apart: asks the process of isolated variants; None where there is none.
        """
        self._snapshot = snapshot
        self._people = people
        self._beside = beside
        self._threads = threads
        self._ask_apart = ask_apart
        self._shadows: set[asyncio.Future[None]] = set()

    async def answer(
        self, form: AskedList, *, at: datetime, request_id: str, variants: dict[str, str] | None = None
    ) -> Answer:
        """Answer one request; where a model or a store is missing the answer says so in ``degraded``.

        Args:
            form: who asks for what.
            at: the time of the request.
            request_id: the same id and person give the same recommendationId.
            variants: the variants that a tester asks for, by experiment.

        Raises:
            RequestError: a filter, a page, a token or a variant is none.
        """
        start_s, at_ms = time.perf_counter(), to_ms(at)
        ask, snapshot = Ask.of(form, at=at), self._snapshot()
        id = recommendation_id(ask.person or "", request_id)
        state = PersonState()
        if ask.person is not None:
            state = await self._people.read(ask.person, service=snapshot.service, after=ask.after, at_ms=at_ms)
        self._beside.metrics.stage(READ, time.perf_counter() - start_s)
        placement, unassigned = await self._place(ask, snapshot, state, at_ms=at_ms, variants=variants or {})
        choice = snapshot.choose(placement)
        request = await self._with_shown(ask.request(state, at_ms=at_ms, seed=id), choice, ask)
        decision, choice = await self._decided(request, choice, snapshot)
        answer = Answer.of(ask, decision, choice, state, id=id, unassigned=unassigned)
        self._note(ask, answer, decision, request, choice, snapshot, state, took_s=time.perf_counter() - start_s)
        for variant in placement.shadows:
            self._shadow(ask, answer, request, variant, snapshot)
        return answer

    async def _place(
        self, ask: Ask, snapshot: Snapshot, state: PersonState, *, at_ms: int, variants: dict[str, str]
    ) -> tuple[Placement, str | None]:
        """Return how the request is answered, and why the stored assignments played no part, if so."""
        traffic = snapshot.traffic
        if variants:
            try:
                traffic.check_overrides(variants)
            except NotFound as error:
                raise RequestError(422, "unknown_variant", str(error)) from None
        if traffic.empty or ask.person is None:
            return PLAIN, None
        known = await self._beside.assignments.read(unit_ids(*ask.ids))
        while True:
            placement = traffic.place(
                ask.ids, at_ms=at_ms, segments=state.segments, stored=known.held.assignments, overrides=variants
            )
            if known.fresh or not placement.new_assignments:
                return placement, known.degraded
            known = await self._beside.assignments.read(unit_ids(*ask.ids), fresh=True)

    async def _with_shown(self, request: Request, choice: Choice, ask: Ask) -> Request:
        """Return ``request`` with how often items were shown, where the pipeline asks for that."""
        cap = choice.engine.pipeline.frequency_cap
        if cap is None or ask.person is None:
            return request
        since_ms = request.at_ms - (cap.days - 1) * DAY_MS
        known = await self._beside.assignments.read(unit_ids(*ask.ids), since_ms=since_ms, shown=True)
        shown = {ItemId(item_id): times for item_id, times in known.held.shown.items()}
        return replace(request, shown=shown, degraded=request.degraded or known.degraded)

    async def _decided(self, request: Request, choice: Choice, snapshot: Snapshot) -> tuple[Decision, Choice]:
        """Return the decision, and what made it."""
        if choice.placement.isolation == "thread":
            return self._decide(choice.engine, request, snapshot), choice
        apart = await asked_apart(self._ask_apart, choice.placement, request)
        if apart is not None:
            return apart.decision, replace(
                choice, model=ELSEWHERE, version=apart.model_version, degraded=apart.degraded
            )
        return self._decide(choice.engine, request, snapshot), replace(choice, degraded=UNAVAILABLE)

    def _decide(self, engine: Engine, request: Request, snapshot: Snapshot) -> Decision:
        """Decide here, in the thread of the event loop: a decision is some milliseconds of work for the interpreter.

        In threads of their own, decisions, the loop and what is read would wait for one another's turns.
        """
        try:
            return engine.recommend(request)
        except ConfigError as error:
            raise RequestError(422, "invalid_filter", str(error)) from None
        except Exception as error:
            # Whatever a model raises: people still get a list. The message may hold personal data.
            logger.error("a decision failed: %s at %s", type(error).__name__, place_of(error))
            return replace(_without_models(request, snapshot), degraded=MODEL_FAILED)

    def _note(
        self,
        ask: Ask,
        answer: Answer,
        decision: Decision,
        request: Request,
        choice: Choice,
        snapshot: Snapshot,
        state: PersonState,
        *,
        took_s: float,
    ) -> None:
        """Write down what was shown and how it went; nothing of it waits for a disk."""
        beside, placement = self._beside, choice.placement
        record = DecisionRecord.of(
            request,
            profile=state.profile,
            profile_version=state.version,
            feature_service=snapshot.service,
            stale=state.stale,
            context=None if choice.model is ELSEWHERE else snapshot.context,
            pipeline=choice.engine.pipeline.name,
            model=choice.model.name if choice.model.bundle is not None else None,
            catalog_seq=snapshot.kit.overlay.seq,
            skipped=decision.skipped,
        )
        beside.exposures.put(served(ask, answer, decision, choice, record, at_ms=request.at_ms))
        if ask.person is not None:
            capped = choice.engine.pipeline.frequency_cap is not None
            items = tuple(item.item_id for item in decision.items)
            shown = Shown(answer.recommendation_id, str(ask.person), request.at_ms, items) if capped else None
            if shown is not None or placement.new_assignments:
                beside.assignments.put(placement.new_assignments, shown)
        others = [(a.experiment, a.variant) for a in placement.assignments if a.experiment != placement.experiment]
        beside.health.record(
            _answerable(choice),
            ms=took_s * 1_000,
            experiment=placement.experiment,
            variant=placement.variant,
            others=others,
            error=decision.degraded == MODEL_FAILED or choice.degraded is not None,
            missed=bool(decision.skipped),
        )
        self._count(answer, decision)

    def _count(self, answer: Answer, decision: Decision) -> None:
        metrics = self._beside.metrics
        metrics.recommendation(answer.variant, answer.model_version, answer.degraded, experiment=answer.experiment)
        for stage, seconds in decision.timings:
            metrics.stage(stage, seconds)
        for stage in decision.skipped:
            metrics.skipped(stage)
        for rule in decision.rules:
            metrics.rule(rule.rule, rule.items, rule.cost)

    def _shadow(self, ask: Ask, answer: Answer, request: Request, variant: Variant, snapshot: Snapshot) -> None:
        """Compute what a shadow variant would have shown, after the answer; where there is no room it is left out."""
        if len(self._shadows) >= MAX_SHADOWS:
            self._beside.metrics.skipped(f"shadow:{variant.name}")
            return
        task = asyncio.ensure_future(self._shadowed(ask, answer, request, variant, snapshot))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow_decided(self, request: Request, choice: Choice) -> tuple[Decision, Choice]:
        if choice.placement.isolation == "thread":
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, choice.engine.recommend, request), choice
        apart = await asked_apart(self._ask_apart, choice.placement, request)
        if apart is None:
            return Decision((), MODEL_FAILED), replace(choice, degraded=UNAVAILABLE)
        return apart.decision, replace(choice, model=ELSEWHERE, version=apart.model_version, degraded=apart.degraded)

    async def _shadowed(self, ask: Ask, answer: Answer, request: Request, variant: Variant, snapshot: Snapshot) -> None:
        choice = snapshot.choose(Placement(variant.model, variant.pipeline, isolation=variant.isolation))
        start_s = time.perf_counter()
        try:
            decision, choice = await self._shadow_decided(request, choice)
        except Exception as error:
            logger.error("a shadow failed: %s at %s", type(error).__name__, place_of(error))
            decision = Decision((), MODEL_FAILED)
        self._beside.exposures.put(
            shadowed(ask, answer, decision, variant=variant.name, model_version=choice.version, at_ms=request.at_ms)
        )
        self._beside.health.record(
            _answerable(choice),
            ms=(time.perf_counter() - start_s) * 1_000,
            experiment=answer.experiment,
            variant=variant.name,
            error=decision.degraded == MODEL_FAILED or choice.degraded is not None,
            missed=bool(decision.skipped),
        )


def recommendation_id(person: str, request_id: str) -> str:
    """Return the id of what one request of one person led to; it tells nothing of either."""
    return hashlib.sha256(f"{request_id}\n{person}".encode()).hexdigest()[:32]


def _without_models(request: Request, snapshot: Snapshot) -> Decision:
    """Return what the fallbacks say; nothing where even that fails."""
    try:
        return snapshot.kit.engine(NO_MODEL).recommend(request)
    except Exception as error:
        logger.error("the fallbacks failed too: %s at %s", type(error).__name__, place_of(error))
        return Decision((), MODEL_FAILED)


def _answerable(choice: Choice) -> str | None:
    """Return the version that an answer speaks for or against: the one that answered, or the one that should have."""
    return choice.version if choice.degraded is None else choice.wanted
