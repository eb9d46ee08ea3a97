"""What the console's pages show, read from the stores at each look."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bespoke.clock import from_ms, to_ms
from bespoke.events import UserId
from bespoke.experiments import ExperimentState, parse_states, total
from bespoke.features import FEATURES, Reading
from monitoring.console.charts import Interval
from monitoring.measures import DRIFT, DRIFT_ALARM
from monitoring.quality import QualityRow, quality_figures
from monitoring.readouts import ExperimentReadout, experiment_readout
from storage.control import Alert, ControlStore, Job, Observation
from storage.exposures import shown_to
from storage.features import OnlineFeatures
from storage.lake import Lake
from storage.metrics_file import declared_metrics
from storage.quality import QualityStore
from storage.segments_file import load_segments
from storage.settings import Settings

READOUT = "readout"
"""The kind of observations that keep how read-outs developed."""
TRAFFIC = timedelta(minutes=5)
HISTORY = timedelta(days=90)
QUALITY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Version:
    """One version in traffic."""

    pointers: tuple[str, ...]
    reference: str
    requests: int
    share: float
    error_share: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page."""

    alerts: Sequence[Alert]
    experiments: Sequence[ExperimentState]
    versions: Sequence[Version]
    drift: Sequence[Observation]
    """Of the newest window."""
    drift_alarms: Sequence[str]
    reports: Sequence[str]
    segments: Sequence[tuple[str, int | None]]
    quality: Sequence[QualityRow]
    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Person:
    """One person's page."""

    user_id: str
    known: bool
    stale: bool
    features: Sequence[tuple[str, str, Any]]
    """Name, meaning, value."""
    segments: Sequence[str]
    shown: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ConsoleData:
    """Everything that pages read."""

    settings: Settings
    control: ControlStore

    def overview(self, at: datetime) -> Overview:
        """Return the first page's figures."""
        drift = self._newest(DRIFT, at)
        return Overview(
            alerts=self.control.alerts(),
            experiments=list(parse_states(self.control.experiments()).experiments.values()),
            versions=self._versions(at),
            drift=sorted(drift, key=lambda one: (not one.off, -(one.value or 0.0))),
            drift_alarms=[one.subject for one in self._newest(DRIFT_ALARM, at) if one.off],
            reports=self.reports(),
            segments=[(name, self._size(name)) for name in load_segments(self.settings.config_dir).names],
            quality=self._quality(at),
            jobs=self.control.list_jobs(limit=10),
        )

    def _newest(self, kind: str, at: datetime) -> list[Observation]:
        found = self.control.observed(kind, since=at - HISTORY)
        newest = max((one.at for one in found), default=None)
        return [one for one in found if one.at == newest]

    def _versions(self, at: datetime) -> list[Version]:
        rows = self.control.health(since=at - TRAFFIC)
        pointers = self.control.pointers()
        everything = total(row.health for row in rows).count
        references = {row.served.version for row in rows if row.served.version} | set(pointers.values())
        found = []
        for reference in sorted(references):
            health = total(row.health for row in rows if row.served.version == reference)
            found.append(
                Version(
                    tuple(sorted(name for name, value in pointers.items() if value == reference)),
                    reference,
                    health.count,
                    health.count / everything if everything else 0.0,
                    health.errors / health.count if health.count else 0.0,
                    health.quantile_ms(0.99),
                )
            )
        return sorted(found, key=lambda one: -one.requests)

    def _size(self, segment: str) -> int | None:
        sizes = self.control.sizes(segment, limit=1)
        return sizes[-1][1] if sizes else None

    def _quality(self, at: datetime) -> list[QualityRow]:
        store = QualityStore(self.settings.quality_url)
        try:
            return quality_figures(store, since_ms=to_ms(at - QUALITY), until_ms=to_ms(at))[:20]
        finally:
            store.close()

    def sizes(self, segment: str) -> list[tuple[str, float]]:
        """Return a segment's size over time."""
        return [(f"{at:%Y-%m-%d %H:%M}", float(members)) for at, members in self.control.sizes(segment, limit=200)]

    def reports(self) -> list[str]:
        """Return the names of written reports, newest first."""
        pages = self.settings.reports_dir.glob("drift-*.html")
        return [path.name for path in sorted(pages, key=lambda path: path.stat().st_mtime, reverse=True)][:20]

    def report(self, name: str) -> Path | None:
        """Return a report's path; None where there is none of that name."""
        return self.settings.reports_dir / name if name in self.reports() else None

    def readout(self, name: str, at: datetime) -> ExperimentReadout | None:
        """Return what an experiment says now; None where there is none of that name."""
        state = parse_states(self.control.experiments()).experiments.get(name)
        if state is None:
            return None
        metrics = list(declared_metrics(self.settings.config_dir).values())
        return experiment_readout(Lake(self.settings.lake_dir), state, metrics, at_ms=to_ms(at))

    def history(self, name: str, at: datetime) -> dict[str, list[tuple[str, float, float, float]]]:
        """Return how an experiment's intervals developed, by ``VARIANT/METRIC``."""
        found: dict[str, list[tuple[str, float, float, float]]] = {}
        for one in self.control.observed(READOUT, since=at - HISTORY):
            experiment, _, rest = one.subject.partition("/")
            if experiment == name and one.value is not None:
                low, high = json.loads(one.words)
                found.setdefault(rest, []).append((f"{one.at:%m-%d %H:%M}", low, one.value, high))
        return found

    def person(self, user_id: str, at: datetime) -> Person:
        """Return what is known of a person and what they were shown.

        Raises:
            Unavailable: the online features or the lake cannot be read.
        """
        id = UserId(user_id)
        found = OnlineFeatures(self.settings).read([id], service="profile", at_ms=to_ms(at)).get(id)
        shown = shown_to(Lake(self.settings.lake_dir), user_id, limit=10)
        if found is None:
            return Person(user_id, False, False, (), (), shown)
        reading = Reading(found.profile, to_ms(at))
        features = [] if found.stale else [(one.name, one.meaning, one.of(reading)) for one in FEATURES]
        return Person(user_id, True, found.stale, features, found.segments, shown)


def intervals_of(found: ExperimentReadout) -> list[Interval]:
    """Return what a read-out says surely, for a chart."""
    rows = []
    for metric in found.readout.metrics:
        for one in metric.comparisons:
            if one.sure is not None and one.relative is not None:
                good = {"better": "better", "harmless": "better", "worse": "worse", "harmful": "worse"}
                tone = good.get(one.verdict.outcome, "open")
                label = f"{metric.metric.name}, {one.variant}"
                rows.append(Interval(label, one.sure.low, one.relative.estimate, one.sure.high, tone))
    return rows


def observations_of(found: ExperimentReadout, *, at: datetime) -> list[Observation]:
    """Return what is kept of a read-out, so that its development can be shown."""
    return [
        Observation(
            READOUT,
            f"{found.experiment}/{one.variant}/{metric.metric.name}",
            at,
            one.relative.estimate,
            one.verdict.outcome in ("worse", "harmful"),
            json.dumps([one.sure.low, one.sure.high]),
        )
        for metric in found.readout.metrics
        for one in metric.comparisons
        if one.sure is not None and one.relative is not None
    ]


def time_of(ms: int | None) -> str:
    """Return a time as people read it."""
    return "-" if ms is None else f"{from_ms(ms):%Y-%m-%d %H:%M}"
