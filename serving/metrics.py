"""What Prometheus may count of a process: requests, recommendations and their stages, rules, models, exposures, events.

The one place of metrics. Names follow https://prometheus.io/docs/practices/naming/. Every label has a bounded set of
values: routes are templates and never paths, and past :data:`MAX_CHILDREN` series of one metric all further ones are
counted together.

Several processes of a node share a folder: each keeps its values in memory-mapped files there, and any of them can
answer for all (https://prometheus.github.io/client_python/multiprocess/).
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from storage.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MAX_CHILDREN = 500
OTHER = "other"
"""The label of what came after so many series."""
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0, 5.0)
"""With bounds at 40 ms, the objective, and at 80 ms, what is accepted under overload."""
STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.5)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REFRESH_S = 1.0
"""How often what is read off other objects is looked at while requests come in."""
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class ExposureCounts(Protocol):
    """How many exposures were written to the log and dropped since the start, and how many wait."""

    @property
    def written(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class Metrics:
    """The metrics of one application.

    >>> metrics = Metrics("recommender")
    >>> metrics.requests("/api/v1/recommendations", "POST", 200, 0.012)
    >>> [line for line in metrics.scrape().decode().splitlines() if line.startswith("http_requests_total")]
    ['http_requests_total{app="recommender",method="POST",route="/api/v1/recommendations",status="200"} 1.0']
    """

    def __init__(
        self, app: str, *, folder: Path | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Count for one application.

        Args:
            app: its name; a label of every request.
            folder: where the processes of this node share their values; absent: this process stands for itself. A
                process can share one folder, chosen before the first metrics are made in it.
            monotonic: seconds, to tell when other objects were last looked at.
        """
        self._app, self._folder, self._monotonic = app, folder, monotonic
        if folder is not None:
            share(folder)
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = CollectorRegistry()
        self._children: dict[Any, dict[tuple[str, ...], Any]] = {}

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=self._registry)

        def gauge(name: str, meaning: str, *labels: str, mode: Any = "livesum") -> Gauge:
            return Gauge(name, meaning, labels, registry=self._registry, multiprocess_mode=mode)

        def histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(name, meaning, labels, registry=self._registry, buckets=buckets)

        self._requests = counter("http_requests_total", "Requests answered.", "app", "method", "route", "status")
        self._seconds = histogram(
            "http_request_duration_seconds",
            "Time until the answer was whole; of a stream, until it began.",
            *("app", "method", "route"),
            buckets=REQUEST_BUCKETS_S,
        )
        self._in_flight = gauge("http_requests_in_flight", "Requests under way.", "app")
        self._limit = gauge("http_requests_in_flight_limit", "Requests that may be under way now.", "app")
        self._refused = counter("http_requests_refused_total", "Requests refused at the edge.", "app", "reason")
        self._recommendations = counter(
            "bespoke_recommendations_total",
            "Lists answered.",
            *("experiment", "variant", "model", "degraded"),
        )
        self._stages = histogram(
            "bespoke_recommendation_stage_seconds", "Time of a stage.", "stage", buckets=STAGE_BUCKETS_S
        )
        self._skipped = counter("bespoke_recommendation_skipped_total", "Stages that missed their deadline.", "stage")
        self._rules = counter("bespoke_rule_applied_total", "Items that a rule put, moved or took.", "rule")
        self._rule_costs = counter("bespoke_rule_score_cost_total", "Model score that a rule cost the lists.", "rule")
        self._models = gauge(
            "bespoke_model_info",
            "Processes where a pointer wants one version and answers with another; 'none' where there is none.",
            *("pointer", "wanted", "active"),
        )
        self._models_ok = gauge(
            "bespoke_model_ok", "1 where every process answers with the version wanted.", "pointer", mode="livemin"
        )
        self._exposures = {
            "written": counter("bespoke_exposures_written_total", "Exposures in the event log."),
            "dropped": counter("bespoke_exposures_dropped_total", "Exposures lost: nobody could write them in time."),
        }
        self._exposures_waiting = gauge("bespoke_exposures_waiting", "Exposures that wait for the event log.")
        self._accepted = counter("bespoke_events_accepted_total", "Events that are durable.", "type")
        self._rejected = counter(
            "bespoke_events_rejected_total", "Events refused, by the field that was wrong.", "field"
        )
        self._profile_age = gauge(
            "bespoke_profile_age_seconds",
            "Time since the newest event in the profile that was read last.",
            mode="livemostrecent",
        )
        self._exposures_seen = {"written": 0, "dropped": 0}
        self._now_in_flight: dict[str, int] = {}
        self._now_active: dict[str, tuple[str, str, str]] = {}
        self._sources: list[Callable[[], None]] = []
        self._refreshed_s = -REFRESH_S

    def requests(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer.

        Args:
            route: its template, such as ``/api/v1/profiles/{user_id}``; never the path.
            method: of the request.
            status: of the answer.
            seconds: how long it took.
        """
        method = method if method in _METHODS else OTHER
        self._child(self._requests, (self._app, method, route, str(status))).inc()
        self._child(self._seconds, (self._app, method, route)).observe(seconds)

    def in_flight(self, now: int, limit: int) -> None:
        """Say how many requests are under way, and how many may be."""
        self._child(self._in_flight, (self._app,)).set(now)
        self._child(self._limit, (self._app,)).set(limit)

    def refused(self, reason: str, count: int = 1) -> None:
        """Count requests that were refused before a route saw them."""
        self._child(self._refused, (self._app, reason)).inc(count)

    def recommendation(
        self, variant: str | None, model_version: str | None, degraded: str | None, *, experiment: str | None = None
    ) -> None:
        """Count one list; ``degraded`` is a reason of a small set of words, and never a message with values."""
        labels = (experiment or "none", variant or "none", model_version or "none", degraded or "none")
        self._child(self._recommendations, labels).inc()

    def stage(self, name: str, seconds: float) -> None:
        """Count the time that one stage took for one request."""
        self._child(self._stages, (name,)).observe(seconds)

    def skipped(self, stage: str) -> None:
        """Count a stage that missed its deadline and was left out."""
        self._child(self._skipped, (stage,)).inc()

    def rule(self, name: str, items: int, cost: float) -> None:
        """Count what a rule did to one list: items put, moved or taken, and the model score that this cost.

        A rule can also gain score, by leaving less room to one before it. A counter cannot fall, so that counts as 0.
        """
        self._child(self._rules, (name,)).inc(items)
        self._child(self._rule_costs, (name,)).inc(max(0.0, cost))

    def model(self, pointer: str, wanted: str | None, active: str | None, ok: bool) -> None:
        """Say what a pointer wants and what it answers with."""
        labels = (pointer, wanted or "none", active or "none")
        before = self._now_active.get(pointer)
        if before is not None and before != labels:
            self._child(self._models, before).set(0)
        self._now_active[pointer] = labels
        self._child(self._models, labels).set(1)
        self._child(self._models_ok, (pointer,)).set(float(ok))

    def exposures(self, counts: ExposureCounts) -> None:
        """Take over what the writer of exposures has counted since the start."""
        for name, counter in self._exposures.items():
            total = getattr(counts, name)
            counter.inc(max(0, total - self._exposures_seen[name]))
            self._exposures_seen[name] = max(total, self._exposures_seen[name])
        self._exposures_waiting.set(counts.waiting)

    def events_accepted(self, type: str, count: int = 1) -> None:
        """Count events that are durable."""
        self._child(self._accepted, (type,)).inc(count)

    def events_rejected(self, field: str, count: int = 1) -> None:
        """Count events that were refused, by the name of the field in the Segment dialect."""
        self._child(self._rejected, (field,)).inc(count)

    def profile_age(self, seconds: float) -> None:
        """Say how old the newest event in a profile is that was read for a request."""
        self._profile_age.set(seconds)

    def add_source(self, look: Callable[[], None]) -> None:
        """Have ``look`` called before a scrape, and once a second while requests come in; it calls methods of this."""
        self._sources.append(look)

    def refresh(self) -> None:
        """Look at the sources, if the last look is a second old."""
        now_s = self._monotonic()
        if now_s - self._refreshed_s >= REFRESH_S:
            self._refreshed_s = now_s
            for look in self._sources:
                look()

    def scrape(self) -> bytes:
        """Return all metrics in Prometheus' text form, those of the other processes of the folder included."""
        from prometheus_client import generate_latest

        for look in self._sources:
            look()
        return generate_latest(self._registry if self._folder is None else _shared(self._folder))

    def _child(self, metric: Any, labels: tuple[str, ...]) -> Any:
        """Return the series of ``labels``; looking it up in here is ten times cheaper than ``metric.labels``."""
        children = self._children.setdefault(metric, {})
        child = children.get(labels)
        if child is None:
            if len(children) >= MAX_CHILDREN:
                labels = (OTHER,) * len(labels)
            child = children[labels] = children.get(labels) or metric.labels(*labels)
        return child


def metrics_folder(settings: Settings) -> Path:
    """Return where the processes of this machine share their metrics; another machine's must not mix with them."""
    return settings.home / "metrics" / platform.node()


def share(folder: Path) -> None:
    """Have this process keep its values in ``folder``; to be called before the first metrics are made in it."""
    folder.mkdir(parents=True, exist_ok=True)
    # Read by prometheus_client when it is imported: it offers no other way to choose.
    os.environ[_FOLDER_VARIABLE] = str(folder)


def clear(folder: Path) -> None:
    """Remove what earlier processes left in ``folder``; to be called where none of them runs any more."""
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def _shared(folder: Path) -> "CollectorRegistry":
    """Return a registry of every process that shares ``folder``; what dead ones have counted stays."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

    for pid in {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*_*.db")}:
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    return registry
