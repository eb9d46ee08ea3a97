"""The snapshot: what one process serves from, whole and unchanging: model versions side by side and the experiment."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bespoke.clock import to_ms
from bespoke.errors import BespokeError, BundleError
from bespoke.events import UserId
from bespoke.experiments import Experiment, assign
from bespoke.models.base import History
from bespoke.models.bundle import Bundle
from bespoke.models.index import top_k
from bespoke.profiles import Recent

logger = logging.getLogger(__name__)

CHAMPION = "champion"
"""The pointer that answers where no experiment says otherwise, and where its variant's model is missing."""
GOLDEN_ITEMS = 5


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
    error: str | None = None
    """Why the bundle is not the wanted one."""

    @property
    def active(self) -> str | None:
        """The ``name@version`` that answers."""
        return None if self.bundle is None else reference(self.bundle)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model answers one person, and why."""

    bundle: Bundle | None
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
        return self.experiments[min(self.experiments)] if self.experiments else None

    def choose(self, person: UserId) -> Choice:
        """Return the model that answers ``person``."""
        champion = self.models.get(CHAMPION)
        standby = None if champion is None else champion.bundle
        experiment = self.experiment
        if experiment is None:
            return Choice(standby, degraded=None if standby else "no_model")
        variant = assign(experiment, person)
        served = self.models.get(variant.model)
        if served is not None and served.bundle is not None:
            return Choice(served.bundle, experiment.name, variant.name)
        # The person stays in the variant, so that the exposure says what the variant really gave.
        return Choice(standby, experiment.name, variant.name, "variant_model_missing" if standby else "no_model")

    @property
    def active(self) -> dict[str, str | None]:
        """The version that answers under each name."""
        return {name: model.active for name, model in self.models.items()}

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is missing of what should be served, in words."""
        missing = [
            f"model {model.name}: {model.error}; serving {model.active or 'nothing'}"
            for model in self.models.values()
            if model.error is not None
        ]
        ignored = sorted(self.experiments)[1:]
        return (*missing, *(f"experiment {name}: not served, one experiment runs at a time" for name in ignored))


def build_snapshot(wanted: Wanted, *, previous: Snapshot, load: Callable[[str], Bundle]) -> Snapshot:
    """Return the snapshot of ``wanted``; where a version cannot be served, its name keeps what it served before.

    Args:
        wanted: what the control store says.
        previous: the snapshot in use; versions that it holds are not loaded again.
        load: returns the bundle of a ``name@version``.
    """
    loaded = {
        version: model.bundle
        for model in previous.models.values()
        if (version := model.active) is not None and model.bundle is not None
    }
    models: dict[str, ServedModel] = {}
    for name, version in wanted.versions.items():
        before = previous.models.get(name)
        kept = None if before is None else before.bundle
        if version is None:
            models[name] = ServedModel(name, None, error="nothing was promoted to it")
            continue
        try:
            if version not in loaded:
                loaded[version] = _checked(load(version))
            models[name] = ServedModel(name, version, loaded[version])
        except BespokeError as error:
            logger.error("model %s: %s cannot be served: %s", name, version, error)
            models[name] = ServedModel(name, version, kept, str(error))
    return Snapshot(models, wanted.experiments)


def reference(bundle: Bundle) -> str:
    """Return ``name@version`` of a bundle."""
    return f"{bundle.manifest.name}@{bundle.manifest.version}"


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
    at_ms = to_ms(bundle.manifest.created_at)
    popular = bundle.popular[:GOLDEN_ITEMS]
    taken = tuple(Recent(at_ms, item_id, "purchase", 1.0) for item_id in popular)
    items = bundle.model.vocabulary
    if not popular or not len(items):
        raise BundleError(f"{reference(bundle)}: it knows no items; train it on a window that has some")
    for recent in ((), taken):
        scores_I = bundle.model.scores(History(None, recent, at_ms))
        if scores_I.shape != (len(items),) or not np.isfinite(scores_I).all():
            raise BundleError(f"{reference(bundle)}: scores are missing or no finite numbers; train it again")
        if not len(top_k(scores_I, k=GOLDEN_ITEMS)):
            raise BundleError(f"{reference(bundle)}: it recommends nothing; train it again")
