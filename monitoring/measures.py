"""What alerts look at: a function per metric, each of which may fail without keeping others from being measured."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow.compute as pc
import pyarrow.parquet as pq

from bespoke.clock import DAY_MS, from_ms, to_ms
from bespoke.experiments import CHAMPION, parse_states, total
from bespoke.models.bundle import MANIFEST, Manifest
from bespoke.statistics.declared import DeclaredMetric
from monitoring.alert_rules import Measured, MetricName
from monitoring.populations import Population, population
from monitoring.readouts import ExperimentReadout, experiment_readout
from storage.bundles import BundleStore
from storage.control import ControlStore, JobState
from storage.lake import Lake

logger = logging.getLogger(__name__)

DRIFT = "drift"
DRIFT_ALARM = "drift_alarm"
"""Kinds of observations: a column drifted in one window, or in two in a row."""
RECENT = timedelta(minutes=5)
FEW_REQUESTS = 50
FEW_PEOPLE = 100
HOUR_S = 3_600.0
SURE = 0.99
"""What acts by itself is surer than what is shown: of 200 experiments without a difference, two at most act."""
HARM = frozenset({"worse", "harmful"})


@dataclass(frozen=True, slots=True)
class Sources:
    """Where figures come from."""

    control: ControlStore
    lake: Lake
    bundles: BundleStore
    metrics: Sequence[DeclaredMetric]


Measure = Callable[[Sources, datetime], Iterable[Measured]]


def measure(
    sources: Sources, wanted: Iterable[MetricName], *, at: datetime
) -> tuple[list[Measured], frozenset[MetricName]]:
    """Return the figures of some metrics, and which could be measured; of one that could not, a line is in the log."""
    found: list[Measured] = []
    failed: set[Measure] = set()
    wanted = frozenset(wanted)
    functions = {MEASURES[name] for name in wanted}
    for function in sorted(functions, key=lambda one: one.__name__):
        try:
            found += list(function(sources, at))
        except Exception as error:
            # Whatever it is: one metric must not keep the others from being looked at.
            failed.add(function)
            logger.warning("cannot measure %s: %s: %s", function.__name__.lstrip("_"), type(error).__name__, error)
    return found, frozenset(name for name in wanted if MEASURES[name] not in failed)


def _drift(sources: Sources, at: datetime) -> Iterable[Measured]:
    alarms = _newest(sources.control, DRIFT_ALARM, at)
    yield Measured("drift", "", float(sum(one.value for one in alarms)), "columns that drifted in two windows in a row")
    for one in alarms:
        if one.value:
            yield replace(one, metric="drift")


def _newest(control: ControlStore, kind: str, at: datetime) -> list[Measured]:
    found = control.observed(kind, since=at - timedelta(days=60))
    newest = max((one.at for one in found), default=None)
    return [Measured("drift", one.subject, float(one.off), one.words) for one in found if one.at == newest]


def _monitoring_age(sources: Sources, at: datetime) -> Iterable[Measured]:
    found = sources.control.observed(DRIFT, since=at - timedelta(days=60))
    if found:
        hours = (at - max(one.at for one in found)).total_seconds() / HOUR_S
        yield Measured("monitoring_age_h", "", hours, f"the last drift report is {hours:.1f} hours old")
    else:
        since = sources.control.first_slot(DRIFT)
        if since is not None:
            hours = (to_ms(at) - since) / DAY_MS * 24
            yield Measured("monitoring_age_h", "", hours, f"no drift report within {hours:.1f} hours")


def _data_age(sources: Sources, at: datetime) -> Iterable[Measured]:
    newest = sources.lake.read_files("events", lambda paths: _received(paths[-64:]))
    if newest is not None:
        seconds = (to_ms(at) - newest) / 1_000
        yield Measured("data_age_s", "", seconds, f"the last event in the lake came {seconds / 60:.0f} minutes ago")


def _received(paths: Sequence[object]) -> int | None:
    times = [pc.max(pq.read_table(path, columns=["received_ms"])["received_ms"]).as_py() for path in paths]
    return max((time for time in times if time is not None), default=None)


def _model_age(sources: Sources, at: datetime) -> Iterable[Measured]:
    reference = sources.control.pointer(CHAMPION)
    if reference is not None:
        # As it stands: whoever loads the version checks it.
        text = (sources.bundles.path(*reference.split("@", 1)) / MANIFEST).read_bytes()
        hours = (at - Manifest.model_validate_json(text).window.until).total_seconds() / HOUR_S
        yield Measured("model_age_h", reference, hours, f"{reference} has seen nothing of the last {hours:.0f} hours")


def _answers(sources: Sources, at: datetime) -> Iterable[Measured]:
    rows = sources.control.health(since=at - RECENT)
    for version in sorted({row.served.version for row in rows if row.served.version}):
        health = total(row.health for row in rows if row.served.version == version)
        if health.count < FEW_REQUESTS:
            continue
        share, p99 = health.errors / health.count, health.quantile_ms(0.99)
        yield Measured("error_share", version, share, f"{share:.2%} of {health.count} answers of {version} failed")
        yield Measured("latency_p99_ms", version, p99, f"99 of 100 decisions of {version} took up to {p99:.0f} ms")


def _experiments(sources: Sources, at: datetime) -> Iterable[Measured]:
    for state in parse_states(sources.control.experiments()).experiments.values():
        if state.running:
            found = experiment_readout(
                sources.lake, state, sources.metrics, at_ms=to_ms(at), confidence=SURE, cuts=False
            )
            shares = state.phase_at(to_ms(at)).shares
            yield from _of_readout(found, {name for name, share in shares.items() if share})


def _of_readout(found: ExperimentReadout, shown: Collection[str]) -> Iterable[Measured]:
    name, ratio, units = found.experiment, found.readout.sample_ratio, sum(found.readout.units.values())
    yield Measured("sample_ratio", name, float(ratio.mismatch), ratio.words or "units arrive as they should")
    crossed = found.crossed / max(units + found.crossed, 1)
    yield Measured("crossed_share", name, crossed, f"{crossed:.1%} of units saw two variants")
    # Of a variant that nobody gets any more there is nothing left to do.
    for variant in (one for one in found.readout.variants[1:] if one in shown):
        told = [
            (one.metric.name, comparison.verdict)
            for one in found.readout.metrics
            for comparison in one.comparisons
            if comparison.variant == variant
        ]
        harmed = "; ".join(f"{which} {said.words}" for which, said in told if said.outcome in HARM)
        gained = "; ".join(f"{which} {said.words}" for which, said in told if said.outcome == "better")
        yield Measured("variant_worse", f"{name}/{variant}", float(bool(harmed)), harmed)
        # What harms something is not to be given to more people, whatever else it gains.
        yield Measured("variant_better", f"{name}/{variant}", float(bool(gained) and not harmed), gained)


def _outcomes(sources: Sources, at: datetime) -> Iterable[Measured]:
    """Hold what people do within a day of being seen against the same days of the week before."""
    daily = [one.model_copy(update={"window": "1 day"}) for one in sources.metrics]
    now, before = (_people(sources.lake, daily, at - timedelta(days=ago)) for ago in (0, 7))
    for metric in daily:
        try:
            (one,), (other,) = now.arms(metric), before.arms(metric)
        except ValueError:
            continue
        if min(one.units, other.units) >= FEW_PEOPLE and other.value:
            change = one.value / other.value - 1
            words = f"{metric.name} is {one.value:.4g}, and was {other.value:.4g} a week before ({change:+.1%})"
            yield Measured("outcome_change", metric.name, change, words)


def _people(lake: Lake, metrics: Sequence[DeclaredMetric], at: datetime) -> Population:
    return population(lake, metrics, since_ms=to_ms(at) - 2 * DAY_MS, until_ms=to_ms(at))


def _jobs(sources: Sources, at: datetime) -> Iterable[Measured]:
    since = at - timedelta(days=1)
    ended = [job for job in sources.control.list_jobs(limit=500) if job.finished_at is not None]
    failed = [job for job in ended if job.state is JobState.FAILED and (job.finished_at or from_ms(0)) >= since]
    kinds = ", ".join(sorted({job.kind for job in failed}))
    yield Measured("jobs_failed", "", float(len(failed)), f"failed within a day: {kinds}" if failed else "")


MEASURES: Mapping[MetricName, Measure] = {
    "drift": _drift,
    "monitoring_age_h": _monitoring_age,
    "data_age_s": _data_age,
    "model_age_h": _model_age,
    "error_share": _answers,
    "latency_p99_ms": _answers,
    "sample_ratio": _experiments,
    "crossed_share": _experiments,
    "variant_worse": _experiments,
    "variant_better": _experiments,
    "outcome_change": _outcomes,
    "jobs_failed": _jobs,
}
