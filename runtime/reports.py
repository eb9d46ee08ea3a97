"""The drift report of a published version: its frozen reference against the features of now."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from bespoke.clock import to_ms
from monitoring.drift import DriftSummary, drift_report
from monitoring.measures import DRIFT, DRIFT_ALARM
from monitoring.references import current_features, frozen_reference
from storage.bundles import BundleStore
from storage.control import ControlStore, Observation
from storage.lake import Lake
from storage.settings import Settings
from training.registry import resolve

LOOK = "drift_look"
"""Observations that say which version was looked at, and when."""
APART = timedelta(hours=1)
"""Looks that are nearer to one another see the same window."""
BEFORE = timedelta(days=60)
"""A window before that is older than this says nothing of now."""


def report_drift(settings: Settings, *, model: str, at: datetime) -> dict[str, Any]:
    """Write the report and return its summary as plain values.

    Raises:
        NotFound: no such model or pointer, or it was published without a reference.
    """
    return _plain(_report(settings, model=model, at=at, drifted_before=()))


def observe_drift(settings: Settings, *, model: str, at: datetime) -> dict[str, Any]:
    """Write the report, and keep what drifted: a column that drifts at two looks in a row is an alarm.

    Raises:
        NotFound: no such model or pointer, or it was published without a reference.
    """
    with ControlStore(settings.control_url) as control:
        reference = resolve(settings, model)
        looks = control.observed(LOOK, subject=reference, since=at - BEFORE)
        last = max((one.at for one in looks if at - one.at >= APART), default=None)
        earlier = control.observed(DRIFT, since=at - BEFORE)
        before = [one.subject for one in earlier if one.at == last and one.off]
        summary = _report(settings, model=reference, at=at, drifted_before=before)
        control.observe([*_observations(summary), Observation(LOOK, reference, at, None, False)])
    return _plain(summary)


def _report(
    settings: Settings, *, model: str, at: datetime, drifted_before: list[str] | tuple[str, ...]
) -> DriftSummary:
    reference = resolve(settings, model)
    name, version = reference.split("@", 1)
    return drift_report(
        frozen_reference(BundleStore(settings.bundles_dir).path(name, version)),
        current_features(Lake(settings.lake_dir), at_ms=to_ms(at)),
        subject=f"features of {reference}",
        at=at,
        reports_dir=settings.reports_dir,
        drifted_before=drifted_before,
    )


def _observations(summary: DriftSummary) -> list[Observation]:
    found = []
    for column in summary.columns:
        words = f"{column.column} moved by {column.score:.3f}" if column.score is not None else column.note
        found.append(Observation(DRIFT, column.column, summary.at, column.score, column.drifted, words))
        found.append(Observation(DRIFT_ALARM, column.column, summary.at, column.score, column.alarm, words))
    return found


def _plain(summary: DriftSummary) -> dict[str, Any]:
    return {
        **asdict(summary),
        "html": str(summary.html),
        "drifted": len(summary.drifted),
        "alarms": list(summary.alarms),
    }
