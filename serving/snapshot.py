"""The snapshot: what one process serves from, whole and unchanging: model versions side by side and the experiment."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from bespoke.clock import to_ms
from bespoke.errors import BespokeError, BundleError
from bespoke.events import InteractionType, UserId
from bespoke.experiments import Experiment, assign
from bespoke.models.bundle import Bundle
from bespoke.profiles import Recent
from bespoke.recommend import Request, Sources, recommend

logger = logging.getLogger(__name__)

CHAMPION = "champion"
"""The pointer that answers where no experiment says otherwise, and where its variant's model is missing."""
POPULAR = "popular"
"""The pointer to a model of what is popular now, the fallback of all others. It may be absent."""
VARIANT_MODEL_MISSING = "variant_model_missing"
GOLDEN_ITEMS = 5
NOTHING = Sources()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the control store says should be served."""

    pointers: Mapping[str, str] = field(default_factory=dict)
    """Pointer -> ``name@version``."""
    experiments: Mapping[str, Experiment] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, str | None]:
        """Everything to load: a pointer or a fixed version, and the ``name@version`` behind it."""
        named = {variant.model for experiment in self.experiments.values() for variant in experiment.variants}
        return {
            name: name if "@" in name else self.pointers.get(name)
            for name in sorted({CHAMPION, *self.pointers, *named})
        }


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What answers under one name."""

    name: str
    """A pointer, or a fixed ``name@version``."""
    wanted: str | None
    bundle: Bundle | None = None
    sources: Sources = NOTHING
    """What its recommendations come from, made once."""
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
    """Which model answers one person, and why."""

    model: ServedModel
    experiment: str | None = None
    variant: str | None = None
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one process serves from."""

    models: Mapping[str, ServedModel] = field(default_factory=dict)
    experiments: Mapping[str, Experiment] = field(default_factory=dict)

    @property
    def experiment(self) -> Experiment | None:
        """The experiment that splits the traffic: the first by name, since one list comes from one model."""
        started = self.experiments.keys() - self.waiting.keys()
        return self.experiments[min(started)] if started else None

    @property
    def waiting(self) -> dict[str, tuple[str, ...]]:
        """The experiments that are not started, with the pointers of their variants that name nothing yet.

        Such a variant has nothing to show, so nobody is in it; a version that cannot be loaded is another matter.
        """
        unset = {name for name, model in self.models.items() if model.wanted is None}
        missing = {
            name: tuple(variant.model for variant in experiment.variants if variant.model in unset)
            for name, experiment in self.experiments.items()
        }
        return {name: pointers for name, pointers in missing.items() if pointers}

    def choose(self, person: UserId) -> Choice:
        """Return the model that answers ``person``."""
        champion = self.models.get(CHAMPION, ABSENT)
        experiment = self.experiment
        if experiment is None:
            return Choice(champion)
        variant = assign(experiment, person)
        served = self.models.get(variant.model)
        if served is not None and served.bundle is not None:
            return Choice(served, experiment.name, variant.name)
        # The person stays in the variant, so that the exposure says what the variant really gave.
        return Choice(champion, experiment.name, variant.name, VARIANT_MODEL_MISSING)

    @property
    def active(self) -> dict[str, str | None]:
        """The version that answers under each name."""
        return {name: model.active for name, model in self.models.items()}

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is missing of what should be served, in stable words that may be shown to anybody."""
        missing = [f"model {model.name}: not loadable" for model in self.models.values() if model.failed]
        if self.models and self.models[CHAMPION].wanted is None:
            missing.append(f"model {CHAMPION}: nothing was promoted to it")
        waits = [
            f"experiment {name} waits: nothing was promoted to {' and '.join(pointers)}"
            for name, pointers in sorted(self.waiting.items())
        ]
        ignored = sorted(self.experiments.keys() - self.waiting.keys())[1:]
        return (
            *missing,
            *waits,
            *(f"experiment {name}: not served, one experiment runs at a time" for name in ignored),
        )

    @property
    def failed(self) -> bool:
        """Whether a version could not be served, which another try may change."""
        return any(model.failed for model in self.models.values())


def build_snapshot(wanted: Wanted, *, previous: Snapshot, load: Callable[[str], Bundle]) -> Snapshot:
    """Return the snapshot of ``wanted``; where a version cannot be served, its name keeps what it served before.

    Args:
        wanted: what the control store says.
        previous: the snapshot in use; versions that it holds are not loaded again.
        load: returns the bundle of a ``name@version``.
    """
    loaded = {reference(model.bundle): model.bundle for model in previous.models.values() if model.bundle is not None}
    models: dict[str, ServedModel] = {}
    for name, version in wanted.versions.items():
        if version is None:
            models[name] = ServedModel(name, None, error="nothing was promoted to it")
            continue
        try:
            if version not in loaded:
                loaded[version] = _checked(load(version))
            models[name] = ServedModel(name, version, loaded[version])
        except BespokeError as error:
            logger.error("model %s: %s cannot be served: %s", name, version, error)
            kept = previous.models.get(name, ABSENT).bundle
            models[name] = ServedModel(name, version, kept, error=str(error))
    return Snapshot(_with_sources(models), wanted.experiments)


def reference(bundle: Bundle) -> str:
    """Return ``name@version`` of a bundle."""
    return f"{bundle.manifest.name}@{bundle.manifest.version}"


def _with_sources(models: Mapping[str, ServedModel]) -> dict[str, ServedModel]:
    popularity = models[POPULAR].bundle if POPULAR in models else None
    return {
        name: replace(model, sources=Sources.of(model.bundle, popularity=popularity)) for name, model in models.items()
    }


def _checked(bundle: Bundle) -> Bundle:
    """Return ``bundle`` if its model answers the golden questions.

    Raises:
        BundleError: it does not.
    """
    try:
        _ask_golden_questions(bundle)
    except BundleError:
        raise
    except Exception as error:
        # Whatever a foreign bundle makes NumPy raise: it must not end the thread that follows the pointers.
        raise BundleError(f"{reference(bundle)}: the model fails on golden questions: {error!r}") from error
    return bundle


def _ask_golden_questions(bundle: Bundle) -> None:
    """Ask for a stranger, and for somebody who took what is popular."""
    at_ms, sources = to_ms(bundle.manifest.created_at), Sources.of(bundle)
    taken = tuple(Recent(at_ms, item_id, InteractionType.PURCHASE, 1.0) for item_id in bundle.popular[:GOLDEN_ITEMS])
    for recent in ((), taken):
        decision = recommend(Request(None, at_ms, num_results=GOLDEN_ITEMS, recent=recent), sources=sources)
        if decision.degraded is not None:
            raise BundleError(f"{reference(bundle)}: {decision.degraded} on a golden question; train it again")
        if not any(item.item_id in bundle.model.vocabulary for item in decision.items):
            raise BundleError(f"{reference(bundle)}: it recommends none of its items; train it again")
        if not all(math.isfinite(item.score) for item in decision.items):
            raise BundleError(f"{reference(bundle)}: its scores are no finite numbers; train it again")
