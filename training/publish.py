"""Publication: a model and what belongs to it become a bundle, whole or not at all."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from bespoke.catalog import Catalog, Item
from bespoke.clock import to_ms
from bespoke.models.base import Model
from bespoke.models.bundle import Window, write_bundle
from bespoke.models.verdict import Verdict
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.reference import feature_table
from training.dataset import fingerprint, within


@dataclass(frozen=True, slots=True)
class About:
    """What every bundle that saw one window holds besides its model."""

    window: Window
    fingerprint: str
    """Of the lines of the window."""
    reference: pa.Table | None
    """Features of everybody at the cut; None where the lake holds no states from before it."""
    catalog: Catalog

    @classmethod
    def at(cls, window: Window, table: pa.Table, lake: Lake, catalog: Catalog) -> "About":
        """Gather it as of the window's end."""
        until_ms = to_ms(window.until)
        states = lake.latest_states(until_ms=until_ms)
        return cls(
            window=window,
            fingerprint=fingerprint(within(table, since_ms=to_ms(window.since), until_ms=until_ms)),
            reference=feature_table(states, at_ms=until_ms) if states.num_rows else None,
            catalog=catalog,
        )


def publish(
    model: Model,
    about: About,
    store: BundleStore,
    *,
    metrics: Mapping[str, float],
    measured: Window | None,
    gate: Verdict,
    parent: str | None,
    seed: int,
    segment: str | None = None,
) -> str:
    """Publish ``model`` under the name of its kind, and of the segment that it is about; return ``NAME@VERSION``.

    Raises:
        BundleError: an array or a metric is not finite.
    """
    at, name = datetime.now(UTC), model.kind if segment is None else f"{model.kind}-{segment}"

    def write(folder: Path) -> None:
        write_bundle(
            folder,
            model,
            name=name,
            version=folder.name,
            window=about.window,
            fingerprint=about.fingerprint,
            segment=segment,
            metrics=metrics,
            measured=measured,
            gate=gate,
            seed=seed,
            feature_service=model.kind,
            parent=parent,
            git_revision=git_revision(),
            created_at=at,
            # An item without a catalog entry is known by its id alone.
            items=[about.catalog.get(item_id, Item(item_id)) for item_id in model.vocabulary.ids],
            reference=about.reference,
        )

    return f"{name}@{store.publish(name, write, at=at)}"


def git_revision() -> str | None:
    """Return the revision of the checkout that this runs from, or None."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
