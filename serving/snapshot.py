"""The snapshot: what one process serves from, whole and unchanging: model versions side by side, split traffic."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bespoke.errors import BespokeError
from bespoke.experiments import CHAMPION, ExperimentState, Holdout, Placement, Traffic, Variant
from bespoke.models.bundle import Bundle
from bespoke.recommend import Engine
from bespoke.recommend.settings import SEGMENT_POINTERS
from serving.golden import checked
from serving.kit import NO_CHANGES, POPULAR, TRENDING, Kit, reference
from serving.pipelines import Recipes
from storage.live_catalog import Overlay

logger = logging.getLogger(__name__)

VARIANT_MODEL_MISSING = "variant_model_missing"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be served: by the control store, the files that say how lists are made, and the live catalog."""

    pointers: Mapping[str, str] = field(default_factory=dict)
    """Pointer -> ``name@version``."""
    experiments: Mapping[str, ExperimentState] = field(default_factory=dict)
    holdout: Holdout | None = None
    recipes: Recipes = field(default_factory=Recipes)
    overlay: Overlay = NO_CHANGES
    isolated: bool = False
    """Whether this is the process of the variants that ask for one of their own."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants of the experiments that run."""
        running = [state.definition for state in self.experiments.values() if state.running]
        return tuple(variant for definition in running for variant in definition.variants)

    @property
    def versions(self) -> dict[str, str | None]:
        """Everything to load: a pointer or a fixed version, and the ``name@version`` behind it.

        What only variants with a process of their own name is loaded there and nowhere else.
        """
        apart = {variant.model for variant in self.variants if variant.isolation == "process"}
        shared = {variant.model for variant in self.variants if variant.isolation != "process"}
        shared |= {CHAMPION, *self._sources, *(() if self.holdout is None else (self.holdout.model,))}
        others = self.pointers.keys() - apart - self._of_segments
        names = apart | self._sources if self.isolated else shared | others
        return {name: name if "@" in name else self.pointers.get(name) for name in sorted(names | {CHAMPION})}

    @property
    def _sources(self) -> set[str]:
        """The pointers that pipelines draw candidates from besides."""
        pipelines = self.recipes.pipelines.values()
        named = {pointer for one in pipelines for pointer in one.pointers}
        return {POPULAR, TRENDING} | named | (self._of_segments if any(one.by_segment for one in pipelines) else set())

    @property
    def _of_segments(self) -> set[str]:
        """The pointers to what the members of segments take: loaded only where a pipeline asks for that."""
        return {name for name in self.pointers if name.startswith(SEGMENT_POINTERS)}

    def reference(self, model: str) -> str | None:
        """Return the ``name@version`` that a variant's model stands for."""
        return model if "@" in model else self.pointers.get(model)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What answers under one name."""

    name: str
    """A pointer, or a fixed ``name@version``."""
    wanted: str | None
    bundle: Bundle | None = None
    error: str | None = None
    """Why the bundle is not the wanted one."""

    @property
    def active(self) -> str | None:
        """The ``name@version`` that answers."""
        return None if self.bundle is None else reference(self.bundle)

    @property
    def failed(self) -> bool:
        """Whether the wanted version could not be served."""
        return self.wanted is not None and self.error is not None


ABSENT = ServedModel(CHAMPION, None)


@dataclass(frozen=True, slots=True)
class Choice:
    """What answers one request, and why."""

    engine: Engine
    model: ServedModel
    placement: Placement
    version: str | None
    """The ``name@version`` that answers."""
    wanted: str | None
    """The one that should."""
    degraded: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """What one process serves from."""

    models: Mapping[str, ServedModel] = field(default_factory=dict)
    kit: Kit = field(default_factory=Kit)
    traffic: Traffic = field(default_factory=Traffic)
    wanted: Wanted = field(default_factory=Wanted)
    context: str | None = None
    """The fingerprint under which the control store keeps what decisions follow from; None: it could not."""

    @cached_property
    def service(self) -> str | None:
        """The feature service that requests read: all recommenders read the same columns of people."""
        services = {model.bundle.manifest.feature_service for model in self.models.values() if model.bundle is not None}
        return min((service for service in services if service is not None), default=None)

    def choose(self, placement: Placement) -> Choice:
        """Return what answers a request that was placed so."""
        served, champion = self.models.get(placement.model), self.models.get(CHAMPION, ABSENT)
        wanted = self.wanted.reference(placement.model)
        if served is not None and served.bundle is not None:
            return Choice(self.kit.engine(served.name, placement.pipeline), served, placement, served.active, wanted)
        # The person stays in the variant, so that the exposure says what the variant really gave.
        degraded = None if placement.model == CHAMPION else VARIANT_MODEL_MISSING
        engine = self.kit.engine(CHAMPION, placement.pipeline)
        return Choice(engine, champion, placement, champion.active, wanted, degraded)

    @property
    def active(self) -> dict[str, str | None]:
        """The version that answers under each name."""
        return {name: model.active for name, model in self.models.items()}

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is missing of what should be served, in stable words that may be shown to anybody."""
        missing = [f"model {model.name}: not loadable" for model in self.models.values() if model.failed]
        if CHAMPION in self.models and self.models[CHAMPION].wanted is None:
            missing.append(f"model {CHAMPION}: nothing was promoted to it")
        waits = [
            f"experiment {name} waits: nothing was promoted to {' and '.join(pointers)}"
            for name, pointers in sorted(self.traffic.waiting.items())
        ]
        return (*missing, *waits)

    @property
    def failed(self) -> bool:
        """Whether a version could not be served, which another try may change."""
        return any(model.failed for model in self.models.values())


def build_snapshot(
    wanted: Wanted,
    *,
    previous: Snapshot,
    load: Callable[[str], Bundle],
    keep_context: Callable[[Mapping[str, object]], str | None] = lambda _: None,
) -> Snapshot:
    """Return the snapshot of ``wanted``; where a version cannot be served, its name keeps what it served before.

    Args:
        wanted: what should be served.
        previous: the snapshot in use; versions that it holds are not loaded again.
        load: returns the bundle of a ``name@version``.
        keep_context: keeps what decisions follow from; returns its fingerprint.
    """
    models = _served(wanted, previous=previous, load=load)
    bundles = {name: model.bundle for name, model in models.items() if model.bundle is not None}
    kit = Kit.of(bundles, recipes=wanted.recipes, overlay=wanted.overlay, previous=previous.kit)
    unset = {variant.model for variant in wanted.variants if wanted.reference(variant.model) is None}
    traffic = Traffic.of(wanted.experiments, holdout=wanted.holdout, unset=unset)
    for model, pipeline in _combinations(wanted, models):
        # Made before the first request needs it.
        kit.engine(model, pipeline)
    body = context_of(kit, {name: model.active for name, model in models.items()})
    return Snapshot(models, kit, traffic, wanted, keep_context(body))


def context_of(kit: Kit, active: Mapping[str, str | None]) -> dict[str, object]:
    """Return what decisions of a kit follow from, besides the request and the live catalog, as JSON takes it."""
    pipelines = {name: one.model_dump(mode="json") for name, one in kit.recipes.pipelines.items()}
    return {"pipelines": pipelines, "rules": kit.recipes.rules_text, "models": dict(active)}


def _served(wanted: Wanted, *, previous: Snapshot, load: Callable[[str], Bundle]) -> dict[str, ServedModel]:
    loaded = {reference(model.bundle): model.bundle for model in previous.models.values() if model.bundle is not None}
    models: dict[str, ServedModel] = {}
    for name, version in wanted.versions.items():
        if version is None:
            if name in (CHAMPION, *(variant.model for variant in wanted.variants)):
                models[name] = ServedModel(name, None, error="nothing was promoted to it")
            continue
        try:
            if version not in loaded:
                loaded[version] = checked(load(version))
            models[name] = ServedModel(name, version, loaded[version])
        except BespokeError as error:
            logger.error("model %s: %s cannot be served: %s", name, version, error)
            kept = previous.models.get(name, ABSENT).bundle
            models[name] = ServedModel(name, version, kept, error=str(error))
    return models


def _combinations(wanted: Wanted, models: Mapping[str, ServedModel]) -> set[tuple[str, str]]:
    """Return the models and pipelines that traffic can lead to."""
    named = {(variant.model, variant.pipeline) for variant in wanted.variants} | {(CHAMPION, "default")}
    if wanted.holdout is not None:
        named.add((wanted.holdout.model, wanted.holdout.pipeline))
    return {
        (model if models.get(model, ABSENT).bundle is not None else CHAMPION, pipeline) for model, pipeline in named
    }
