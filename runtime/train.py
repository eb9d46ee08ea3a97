"""One training as a command runs it: Ray, progress, the report, the pointer."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bespoke.models.verdict import Verdict
from bespoke.recommend.settings import SEGMENT_POINTERS
from runtime.progress import steps
from runtime.ray_local import ray_session
from storage.settings import Settings
from training.choose import AUTO, best_kind
from training.evaluate import Say
from training.propensity import PropensityRequest, TrainedScores, score_paths, train_propensity
from training.registry import pointers
from training.registry import promote as move
from training.train import Trained, TrainRequest, check, train_and_publish

FAILED = 1
NOT_PROMOTED = 3
SCORE_WINDOW = timedelta(days=180)
"""Scores look back at least so far: they learn from the same people at many times."""


@dataclass(frozen=True, slots=True)
class TrainingDone:
    """What a command tells of a training."""

    trained: Trained | None
    """Recommenders; None where only scores were asked for."""
    scores: TrainedScores | None
    """Propensity scores; None where none were asked for."""
    report: Path | None
    promoted: str | None
    """The pointer that was moved."""
    notes: tuple[str, ...]
    exit_status: int

    @property
    def references(self) -> dict[str, str]:
        """Return NAME@VERSION of everything that was published."""
        found = {} if self.trained is None else self.trained.references
        return found if self.scores is None else {**found, **self.scores.references}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Return the gate's verdicts."""
        found = {} if self.trained is None else {name: one.verdict for name, one in self.trained.outcomes.items()}
        return found if self.scores is None else {**found, **self.scores.verdicts}

    def as_json(self) -> dict[str, Any]:
        """Return what scripts read."""
        references, trained, scores = self.references, self.trained, self.scores
        return {
            "models": list(references.values()),
            "outcomes": {
                name: {"model": references[name], "state": verdict.state, **verdict.model_dump(mode="json")}
                for name, verdict in self.verdicts.items()
            },
            "errors": {} if trained is None else trained.errors,
            "metrics": {} if trained is None else trained.metrics,
            "scores": {} if scores is None else scores.metrics,
            "promoted": self.promoted,
            "report": None if self.report is None else str(self.report),
        }


def train_with_report(
    request: TrainRequest, settings: Settings, *, promote: str | None, report: bool, quiet: bool
) -> TrainingDone:
    """Train what is asked for, write the report, and point ``promote`` at the one version if the gate let it through.

    Args:
        request: kinds of recommenders, ``auto`` for the one that suits the data best, and names of config/scores/.
        settings: the installation.
        promote: a pointer to move, where one recommender is trained; of a segment's popularity ``popular-SEGMENT``, if
            nothing is said.
        report: whether to write one.
        quiet: whether to tell no steps.

    Raises:
        BespokeError: as :func:`training.train.train_and_publish`.
    """
    if promote is None and request.segment is not None:
        promote = f"{SEGMENT_POINTERS}{request.segment}"
    names = {path.stem for path in score_paths(settings.config_dir)}
    scores = tuple(kind for kind in request.kinds if kind in names)
    models = replace(request, kinds=tuple(kind for kind in request.kinds if kind not in names))
    check(replace(models, kinds=tuple(kind for kind in models.kinds if kind != AUTO)), settings)
    with steps(quiet=quiet) as say, ray_session(settings):
        done = _scores(scores, request, settings, say) if scores else None
        if not models.kinds:
            return TrainingDone(None, done, None, None, (), 0)
        trained = train_and_publish(_chosen(models, settings, say), settings, say=say)
        path = _report(trained, models, settings, say) if report and trained.test.taken else None
    notes = [] if path is None else [f"report: {path}"]
    if promote is None or not trained.outcomes:
        return TrainingDone(trained, done, path, None, tuple(notes), FAILED if trained.errors else 0)
    moved = _may_serve(trained)
    notes.append(_promoted(trained, settings, promote))
    return TrainingDone(trained, done, path, promote if moved else None, tuple(notes), 0 if moved else NOT_PROMOTED)


def _chosen(request: TrainRequest, settings: Settings, say: Say) -> TrainRequest:
    """Put the kind that does best in the place of ``auto``."""
    if AUTO not in request.kinds:
        return request
    best = best_kind(request.windows, settings, seed=request.seed, say=say).kind
    return replace(request, kinds=tuple(dict.fromkeys(best if kind == AUTO else kind for kind in request.kinds)))


def _scores(names: tuple[str, ...], request: TrainRequest, settings: Settings, say: Say) -> TrainedScores:
    wanted = PropensityRequest(names, request.until, max(request.window, SCORE_WINDOW), request.seed)
    return train_propensity(wanted, settings, say=say)


def _report(trained: Trained, request: TrainRequest, settings: Settings, say: Say) -> Path:
    from training.report import write_report

    say("writing the report")
    return write_report(trained, request, settings.reports_dir, at=datetime.now(UTC))


def _may_serve(trained: Trained) -> bool:
    return all(outcome.verdict.may_serve for outcome in trained.outcomes.values())


def _promoted(trained: Trained, settings: Settings, pointer: str) -> str:
    """Move the pointer where that is allowed; return what to tell."""
    others = pointers(settings)
    if not _may_serve(trained):
        return f"{pointer} stays {others.get(pointer, 'without a version')}; to serve it all the same: --force"
    (reference,) = trained.references.values()
    move(settings, reference, pointer=pointer, by="bespoke train", reason="--promote")
    known = "" if pointer in others else f", a new pointer; there were: {', '.join(sorted(others)) or 'none'}"
    return f"{pointer} is now {reference}{known}"
