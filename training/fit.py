"""Fitting: a model of any kind as of a cut, in a Ray task. Nothing at or past the cut is seen."""

import shutil
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import ray
import ray.exceptions

from bespoke.catalog import Catalog
from bespoke.errors import BespokeError, TrainingError
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import Model, ModelConfig, OnEpoch
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.history import History
from bespoke.models.registry import model_of_kind
from bespoke.models.two_tower import TwoTower
from bespoke.models.two_tower_config import TwoTowerConfig
from training.dataset import baskets, fingerprint, histories, to_interactions, within
from training.windows import HELD_OUT

VALIDATION_MS = round(HELD_OUT.total_seconds() * 1000)
"""How long before the cut the baskets begin on which a blend learns its weights."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """One model to fit."""

    kind: str
    config: ModelConfig
    at_ms: int
    """The cut."""
    window_ms: int
    """How far before the cut training looks."""
    seed: int = 0
    catalog: Catalog = field(default_factory=dict)
    """What was known of items at the cut."""
    start: Model | None = None
    """An earlier model to begin from."""
    checkpoints: Path | None = None
    """Where a kind that trains for long keeps how far it got, so that it survives killed workers; None for nowhere."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model, and how its training went."""

    model: Model
    curve: tuple[float, ...] = field(default=())
    """The loss after each epoch, for kinds that have epochs."""


def fit_remotely(table: pa.Table, request: FitRequest) -> Fitted:
    """Fit on Ray; ``table`` holds lines in the order of time, and what lies past the cut never gets there.

    Networks train in worker processes of their own, with checkpoints; als over several nodes in a task per block, where
    there are several; everything else in one task.

    Raises:
        TrainingError: the window holds nothing to learn from.
    """
    past = within(table, since_ms=None, until_ms=request.at_ms)
    if request.kind == TwoTower.kind and request.checkpoints is not None:
        return Fitted(_fit_with_workers(past, request, request.checkpoints))
    if request.kind == Als.kind and _nodes() > 1:
        return _fit_in_blocks(past, request)
    try:
        fitted: Fitted = ray.get(ray.remote(_fit_with_curve).remote(past, request))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BespokeError):
            raise error.cause from None
        raise
    return fitted


def _nodes() -> int:
    return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]


def _fit_in_blocks(table: pa.Table, request: FitRequest) -> Fitted:
    from training.als_blocks import fit_on_ray

    assert isinstance(request.config, AlsConfig)
    curve: list[float] = []
    model = fit_on_ray(
        to_interactions(_window(table, request, at_ms=request.at_ms), weights=request.config.interaction_weights),
        config=request.config,
        at_ms=request.at_ms,
        seed=request.seed,
        start=request.start if isinstance(request.start, Als) else None,
        blocks=int(ray.cluster_resources()["CPU"]),  # type: ignore[no-untyped-call]
        on_epoch=lambda epoch: curve.append(epoch.loss),
    )
    return Fitted(model, tuple(curve))


def _fit_with_workers(table: pa.Table, request: FitRequest, checkpoints: Path) -> Model:
    from training.two_tower import RayPlan, fit_on_ray

    assert isinstance(request.config, TwoTowerConfig)
    lines = _window(table, request, at_ms=request.at_ms)
    # A name that stands for data and settings: the same training, begun again, goes on where it was.
    started_from = "" if request.start is None else sha256(request.start.popularity_I.tobytes()).hexdigest()
    told = f"{fingerprint(lines)} {request.config.model_dump_json()} {request.at_ms} {request.seed} {started_from}"
    plan = RayPlan(
        storage_path=checkpoints,
        name=f"{request.kind}-{sha256(told.encode()).hexdigest()[:16]}",
        gpu=ray.cluster_resources().get("GPU", 0) >= 1,  # type: ignore[no-untyped-call]
    )
    model = fit_on_ray(
        to_interactions(lines, weights=request.config.interaction_weights),
        config=request.config,
        at_ms=request.at_ms,
        seed=request.seed,
        catalog=request.catalog,
        start=request.start,
        plan=plan,
    )
    shutil.rmtree(checkpoints / plan.name, ignore_errors=True)
    return model


def _fit_with_curve(table: pa.Table, request: FitRequest) -> Fitted:
    curve: list[float] = []
    model = fit(table, request, on_epoch=lambda epoch: curve.append(epoch.loss))
    return Fitted(model, tuple(curve))


def fit(table: pa.Table, request: FitRequest, *, on_epoch: OnEpoch | None = None) -> Model:
    """Return the model of ``request``, trained on the window that ends at its cut.

    Raises:
        TrainingError: the window holds nothing to learn from.
    """
    model = _fit(table, request, at_ms=request.at_ms, on_epoch=on_epoch)
    if not isinstance(model, Blend):
        return model
    earlier = _blend_before_validation(table, request, model.config)
    return model if earlier is None else model.with_learned(earlier.learned)


def _fit(table: pa.Table, request: FitRequest, *, at_ms: int, on_epoch: OnEpoch | None = None) -> Model:
    interactions = to_interactions(_window(table, request, at_ms=at_ms), weights=request.config.interaction_weights)
    family = model_of_kind(request.kind)
    return family.fit(
        interactions,
        config=request.config,
        at_ms=at_ms,
        seed=request.seed,
        catalog=request.catalog,
        start=request.start,
        on_epoch=on_epoch,
    )


def _window(table: pa.Table, request: FitRequest, *, at_ms: int) -> pa.Table:
    return within(table, since_ms=at_ms - request.window_ms, until_ms=at_ms)


def _blend_before_validation(table: pa.Table, request: FitRequest, config: BlendConfig) -> Blend | None:
    """Return a blend that has not seen the last days before the cut, with the weights that suit those days best.

    None where the data does not reach back that far, or nothing happened in those days.
    """
    at_ms = request.at_ms - VALIDATION_MS
    lines = _window(table, request, at_ms=at_ms)
    followed = baskets(within(table, since_ms=at_ms, until_ms=request.at_ms))
    if not lines.num_rows or not followed:
        return None
    known = histories(table, at_ms=at_ms)
    cases = [(known.get(one.user_id, History(one.user_id, (), at_ms)), one.items) for one in followed]
    try:
        earlier = _fit(table, request, at_ms=at_ms)
    except TrainingError:
        # Lines there are, but none that counts.
        return None
    assert isinstance(earlier, Blend)
    return earlier.with_learned_weights(cases, seed=request.seed)
