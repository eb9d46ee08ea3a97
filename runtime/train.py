"""One training as a command runs it: Ray, progress, the report, the pointer."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtime.progress import steps
from runtime.ray_local import ray_session
from storage.settings import Settings
from training.registry import pointers
from training.registry import promote as move
from training.train import Trained, TrainRequest, check, train_and_publish

FAILED = 1
NOT_PROMOTED = 3


@dataclass(frozen=True, slots=True)
class TrainingDone:
    """What a command tells of a training."""

    trained: Trained
    report: Path | None
    promoted: str | None
    """The pointer that was moved."""
    notes: tuple[str, ...]
    exit_status: int

    def as_json(self) -> dict[str, Any]:
        """Return what scripts read."""
        return {
            "models": list(self.trained.references.values()),
            "outcomes": {
                kind: {"model": outcome.reference, **outcome.verdict.model_dump(mode="json")}
                for kind, outcome in self.trained.outcomes.items()
            },
            "errors": self.trained.errors,
            "metrics": self.trained.metrics,
            "promoted": self.promoted,
            "report": None if self.report is None else str(self.report),
            "seconds": self.trained.seconds,
        }


def train_with_report(
    request: TrainRequest, settings: Settings, *, promote: str | None, report: bool, quiet: bool
) -> TrainingDone:
    """Train, write the report, and point ``promote`` at the one version if the gate let it through.

    Raises:
        BespokeError: as :func:`training.train.train_and_publish`.
    """
    check(request, settings)
    with steps(quiet=quiet) as say, ray_session(settings):
        trained = train_and_publish(request, settings, say=say)
        path = None
        if report and trained.test.taken:
            from training.report import write_report

            say("writing the report")
            path = write_report(trained, request, settings.reports_dir, at=datetime.now(UTC))
    notes = [] if path is None else [f"report: {path}"]
    status = FAILED if trained.errors else 0
    if promote is not None and trained.outcomes:
        notes, moved = [*notes, _promoted(trained, settings, promote)], _may_serve(trained)
        return TrainingDone(trained, path, promote if moved else None, tuple(notes), 0 if moved else NOT_PROMOTED)
    return TrainingDone(trained, path, None, tuple(notes), status)


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
