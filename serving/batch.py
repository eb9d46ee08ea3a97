"""Lists for many people at once: what one process of a batch does. The same pipeline as over HTTP; no Ray in here."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
from pydantic import ValidationError

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import NotFound, Unavailable
from bespoke.events import ANONYMOUS, ItemId, UserId
from bespoke.experiments import CHAMPION, unit_ids
from bespoke.models.bundle import Bundle, read_bundle
from bespoke.profiles import EMPTY, from_row
from bespoke.recommend import DEFAULT, FEATURES_STALE, Decision, Request
from serving.asking import Ask
from serving.follower import SnapshotFollower
from serving.kit import Kit
from serving.logs import place_of
from serving.people import PersonState
from serving.recommendation_forms import RecommendationRequest
from serving.replay import kit_of
from serving.snapshot import Snapshot, context_of
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.features import OnlineFeatures
from storage.live_catalog import Overlay
from storage.serving_state import ServingState
from storage.settings import Settings

logger = logging.getLogger(__name__)

LISTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("position", pa.int32()),
        ("item_id", pa.string()),
        ("score", pa.float64()),
        ("source", pa.string()),
        ("propensity", pa.float64()),
        ("model_version", pa.string()),
        ("degraded", pa.string()),
    ]
)
"""One row per place of a list; ``position`` counts from 1."""
ANSWERS = pa.schema([*LISTS, ("row", pa.int64()), ("reason", pa.string())])
"""The same, and one row for each person without a list: who it was in the input, and why."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What all lists of a batch follow from, so that every process makes the same ones."""

    context: Mapping[str, Any]
    """Pipelines, rules and model versions, as :func:`serving.snapshot.context_of` says them."""
    overlay: Overlay
    model: str
    """A pointer or a ``name@version`` of the context."""
    model_version: str
    pipeline: str
    service: str | None
    """The feature service that is read."""
    num_results: int
    at: datetime
    frequency_days: int | None
    """How far back it counts what people were shown; None: not at all."""


def plan_batch(
    settings: Settings, *, model: str = CHAMPION, pipeline: str = DEFAULT, num_results: int, at: datetime
) -> BatchPlan:
    """Return the plan of a batch as of now: what serving would answer with.

    Raises:
        NotFound: there is no such pointer, version or pipeline.
        Unavailable: the control store cannot be reached.
        BundleError: the version cannot be served.
    """
    with ControlStore(settings.control_url) as control:
        follower = SnapshotFollower(control, BundleStore(settings.bundles_dir), config_dir=settings.config_dir)
        if not follower.ready:
            raise Unavailable("the control store cannot be reached; repeat the command")
        snapshot = follower.snapshot
    kit, version = snapshot.kit, _version(snapshot, model)
    if pipeline not in kit.recipes.pipelines:
        known = ", ".join(sorted(kit.recipes.pipelines))
        raise NotFound(f"pipeline {pipeline!r}: no such pipeline; config/pipelines.toml has: {known}")
    cap = kit.pipeline(pipeline).frequency_cap
    service = snapshot.service or _bundle(settings, version).manifest.feature_service
    return BatchPlan(
        context=context_of(kit, {**snapshot.active, model: version}),
        # Without what it remembers of a table: it goes to other processes.
        overlay=Overlay(dict(kit.overlay.changes), kit.overlay.seq),
        model=model,
        model_version=version,
        pipeline=pipeline,
        service=service,
        num_results=num_results,
        at=at,
        frequency_days=None if cap is None else cap.days,
    )


def _version(snapshot: Snapshot, model: str) -> str:
    if "@" in model:
        return model
    served = snapshot.models.get(model)
    if served is None or served.active is None:
        why = "no such pointer" if served is None else served.error or "nothing was promoted to it"
        raise NotFound(f"model {model!r}: {why}; name another with --model, or point it at a version first")
    return served.active


def _bundle(settings: Settings, version: str) -> Bundle:
    name, _, number = version.partition("@")
    return read_bundle(BundleStore(settings.bundles_dir).path(name, number))


class States(Protocol):
    """Where people's states are read."""

    def read(self, user_ids: Sequence[UserId]) -> Mapping[UserId, PersonState]:
        """Return the states of these people; who has none is absent."""


class OnlineStates:
    """States as the online store has them."""

    def __init__(self, features: OnlineFeatures, plan: BatchPlan) -> None:
        self._features, self._plan = features, plan

    def read(self, user_ids: Sequence[UserId]) -> Mapping[UserId, PersonState]:
        """See :class:`States`."""
        if self._plan.service is None:
            return {}
        found = self._features.read(user_ids, service=self._plan.service, at_ms=to_ms(self._plan.at))
        return {
            user_id: PersonState(
                one.profile, None, FEATURES_STALE if one.stale else None, one.stale, one.version, one.segments
            )
            for user_id, one in found.items()
        }


class LakeStates:
    """Each person's last state in the lake."""

    def __init__(self, states: pa.Table, features: OnlineFeatures, plan: BatchPlan) -> None:
        """Read from ``states``, one row per person; ``features`` tells which columns, and how old is too old."""
        self._row_of = {user_id: row for row, user_id in enumerate(states["user_id"].to_pylist())}
        columns = frozenset() if plan.service is None else features.columns(plan.service)
        self._states = states.select([name for name in states.column_names if name in columns | {"version"}])
        self._oldest_ms = features.oldest_ms(to_ms(plan.at))

    def read(self, user_ids: Sequence[UserId]) -> Mapping[UserId, PersonState]:
        """See :class:`States`."""
        known = [user_id for user_id in user_ids if user_id in self._row_of]
        rows = self._states.take(pa.array([self._row_of[user_id] for user_id in known], pa.int64())).to_pylist()
        return {user_id: self._state(row) for user_id, row in zip(known, rows, strict=True)}

    def _state(self, row: Mapping[str, Any]) -> PersonState:
        received_ms = row.get("received_ms")
        stale = self._oldest_ms is not None and received_ms is not None and received_ms < self._oldest_ms
        profile = EMPTY if stale else from_row(row)
        segments = tuple(row.get("segments") or ())
        return PersonState(profile, None, FEATURES_STALE if stale else None, stale, row["version"], segments)


class BatchRecommender:
    """Answers people by the hundred. One to a process: it holds one kit."""

    def __init__(
        self, plan: BatchPlan, states: States, *, load: Callable[[str], Bundle], shown: ServingState | None = None
    ) -> None:
        """Put the kit together.

        Args:
            plan: what lists follow from.
            states: where people are looked up.
            load: returns the bundle of a ``name@version``.
            shown: what people were shown, where the pipeline asks for that.
        """
        self._plan, self._states, self._shown = plan, states, shown
        self._kit: Kit = kit_of(plan.context, overlay=plan.overlay, load=load)
        self._engine = self._kit.engine(plan.model, plan.pipeline)

    @classmethod
    def of(cls, settings: Settings, plan: BatchPlan, *, states: pa.Table | None = None) -> "BatchRecommender":
        """Open an installation's stores; ``states`` are the lake's last ones, and without them the online store's."""
        features = OnlineFeatures(settings)
        source = OnlineStates(features, plan) if states is None else LakeStates(states, features, plan)
        shown = None if plan.frequency_days is None else ServingState(settings.serving_url)
        return cls(plan, source, load=lambda version: _bundle(settings, version), shown=shown)

    def __call__(self, people: pa.Table) -> pa.Table:
        """Answer people.

        Args:
            people: columns ``row`` and ``user_id``.

        Returns:
            Their lists, in their order, of schema :data:`ANSWERS`.

        Raises:
            Unavailable: states cannot be read.
        """
        user_ids = people["user_id"].to_pylist()
        states = self._states.read(user_ids)
        rows = [
            row
            for place, user_id in zip(people["row"].to_pylist(), user_ids, strict=True)
            for row in self._rows(place, user_id, states.get(user_id, PersonState()))
        ]
        return pa.Table.from_pylist(rows, schema=ANSWERS)

    def _rows(self, place: int, user_id: UserId, state: PersonState) -> Iterator[dict[str, Any]]:
        try:
            decision = self._engine.recommend(self._request(user_id, state), timer=lambda: 0.0)
        except Unavailable:
            raise
        except ValidationError:
            yield {"row": place, "user_id": user_id, "reason": "this is no id of a person"}
        except Exception as error:
            # Whatever a model raises for one person: the others get their lists. The message may hold personal data.
            logger.error("a list failed: %s at %s", type(error).__name__, place_of(error))
            yield {"row": place, "user_id": user_id, "reason": f"the model failed: {type(error).__name__}"}
        else:
            yield from self._listed(user_id, decision)

    def _listed(self, user_id: UserId, decision: Decision) -> Iterator[dict[str, Any]]:
        for position, item in enumerate(decision.items, start=1):
            yield {
                "user_id": user_id,
                "position": position,
                "item_id": item.item_id,
                "score": item.score,
                "source": item.source,
                "propensity": item.propensity,
                "model_version": self._plan.model_version,
                "degraded": decision.degraded,
            }

    def _request(self, user_id: UserId, state: PersonState) -> Request:
        anonymous = user_id.startswith(ANONYMOUS)
        ids = {"anonymous_id": user_id.removeprefix(ANONYMOUS)} if anonymous else {"user_id": user_id}
        ask = Ask.of(RecommendationRequest(num_results=self._plan.num_results, **ids), at=self._plan.at)
        at_ms = to_ms(self._plan.at)
        request = ask.request(state, at_ms=at_ms, seed=_seed(user_id, at_ms))
        if self._shown is None or self._plan.frequency_days is None:
            return request
        since_ms = at_ms - (self._plan.frequency_days - 1) * DAY_MS
        held = self._shown.read(unit_ids(*ask.ids), since_ms=since_ms, shown=True)
        return replace(request, shown={ItemId(item_id): times for item_id, times in held.shown.items()})


def _seed(user_id: UserId, at_ms: int) -> str:
    """Return what decides chance for a person: the same batch repeated is the same."""
    return hashlib.sha256(f"batch {at_ms}\n{user_id}".encode()).hexdigest()[:32]
