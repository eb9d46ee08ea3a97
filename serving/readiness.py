"""Whether an application can answer, what it lacks, and what it counts of itself."""

from bespoke.errors import Unavailable
from serving.assignments import Assignments
from serving.exposures import ExposureWriter
from serving.follower import SnapshotFollower
from serving.metrics import Metrics
from serving.people import FeatureReader
from serving.schemas import Readiness, ServedVersion
from storage.eventlog import EventLog
from storage.quality_counts import QualityCounts


def count_models(metrics: Metrics, follower: SnapshotFollower, exposures: ExposureWriter) -> None:
    for model in follower.snapshot.models.values():
        ok = model.error is None and model.wanted == model.active
        metrics.model(model.name, model.wanted, model.active, ok)
    metrics.exposures(exposures.counts)


def collector_readiness(log: EventLog, counts: QualityCounts) -> Readiness:
    lost = counts.written
    lacks = []
    if lost.dropped or lost.dropped_failed:
        lacks.append(f"{lost.dropped} counts and {lost.dropped_failed} failed events were dropped since the start")
    try:
        log.end(0)
    except Unavailable:
        return Readiness(ready=False, lacks=("the event log cannot be reached", *lacks))
    return Readiness(ready=True, lacks=tuple(lacks))


def recommender_readiness(
    follower: SnapshotFollower, features: FeatureReader, exposures: ExposureWriter, assignments: Assignments
) -> Readiness:
    """Ready means that requests get an answer; what would make the answers better is said in ``lacks``."""
    lacks = list(follower.lacks)
    if not features.ready():
        lacks.append("the online features cannot be read")
    if exposures.counts.dropped:
        lacks.append(f"{exposures.counts.dropped} exposures were dropped since this process started")
    if not assignments.available:
        lacks.append("the serving state store cannot be reached: assignments follow from the hash alone")
    if assignments.counts.dropped:
        lacks.append(f"{assignments.counts.dropped} assignments were dropped since this process started")
    models = [
        ServedVersion(pointer=model.name, wanted=model.wanted, active=model.active)
        for model in follower.snapshot.models.values()
    ]
    ready = follower.ready and follower.alive and exposures.alive
    return Readiness(ready=ready, models=tuple(models), lacks=tuple(lacks))
