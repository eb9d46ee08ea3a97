"""The drift report of a published version: its frozen reference against the features of now."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from bespoke.clock import to_ms
from monitoring.drift import drift_report
from monitoring.references import current_features, frozen_reference
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.settings import Settings
from training.registry import resolve


def report_drift(settings: Settings, *, model: str, at: datetime) -> dict[str, Any]:
    """Write the report and return its summary as plain values.

    Raises:
        NotFound: no such model or pointer, or it was published without a reference.
    """
    reference = resolve(settings, model)
    name, version = reference.split("@", 1)
    summary = drift_report(
        frozen_reference(BundleStore(settings.bundles_dir).path(name, version)),
        current_features(Lake(settings.lake_dir), at_ms=to_ms(at)),
        subject=f"features of {reference}",
        at=at,
        reports_dir=settings.reports_dir,
    )
    return {**asdict(summary), "html": str(summary.html), "drifted": len(summary.drifted)}
