"""Training: fit and measure on held-out days, fit anew up to the cut, publish as a bundle."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from bespoke.catalog import Item
from bespoke.clock import from_ms, to_ms
from bespoke.errors import ConfigError, TrainingError
from bespoke.models.base import Model
from bespoke.models.bundle import Window, write_bundle
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.reference import feature_table
from storage.settings import Settings
from training.configs import load_config
from training.dataset import fingerprint, read_interactions, require_recent, within
from training.evaluate import Metrics, Say, held_out_baskets, measure
from training.fit import FitRequest, fit_remotely

HELD_OUT = timedelta(days=7)
BASELINES = ("buy_again", "popularity")
LENGTHS = (20,)


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What to train."""

    kinds: tuple[str, ...]
    until: datetime
    """The cut: nothing from this time on is seen."""
    window: timedelta
    config_path: Path | None = None
    """Settings of the one kind; config/models/KIND.toml by default."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trained:
    """Published models."""

    references: dict[str, str]
    """NAME@VERSION by kind."""
    metrics: dict[str, Metrics]
    """On the held-out days, theirs and those of the baselines; empty where there are no such days."""
    seconds: float


def train_and_publish(request: TrainRequest, settings: Settings, *, say: Say) -> Trained:
    """Measure the models beside the baselines on the last days before the cut, train them up to the cut, publish.

    Raises:
        ConfigError: the settings are wrong.
        NotFound: there is no such kind of model.
        TrainingError: the window holds nothing to learn from.
    """
    started = time.perf_counter()
    fits = check(request, settings)
    say("reading the lake")
    lake = Lake(settings.lake_dir)
    table = read_interactions(lake, since_ms=None, until_ms=to_ms(request.until))
    metrics = _measured(table, request, fits, say=say)
    say("gathering features and items as of the cut")
    about, store, references = _about(table, request, lake), BundleStore(settings.bundles_dir), {}
    for kind in request.kinds:
        say(f"{kind}: training up to {request.until:%Y-%m-%d %H:%M}")
        model = fit_remotely(table, fits[kind])
        references[kind] = _publish(model, about, store, metrics=metrics.get(kind, {}))
        say(f"published {references[kind]}")
    return Trained(references, metrics, time.perf_counter() - started)


def check(request: TrainRequest, settings: Settings) -> dict[str, FitRequest]:
    """Look for what would make a training fail, without Ray; return how to fit the wanted kinds and the baselines.

    Raises:
        ConfigError: the settings are wrong, or the file that was asked for is missing.
        NotFound: there is no such kind of model.
        TrainingError: the lake is empty, or everything in it is older than the window.
    """
    if request.config_path is not None and len(request.kinds) != 1:
        raise ConfigError(f"one file of settings is for one kind of model, got {', '.join(request.kinds)}")
    fits = _fits(request, settings)
    require_recent(Lake(settings.lake_dir), since_ms=to_ms(request.until - request.window))
    return fits


def _fits(request: TrainRequest, settings: Settings) -> dict[str, FitRequest]:
    """Return how to fit the wanted kinds and the baselines, up to the cut."""
    at_ms, window_ms = to_ms(request.until), round(request.window.total_seconds() * 1000)
    fits = {}
    for kind in dict.fromkeys((*request.kinds, *BASELINES)):
        own = request.config_path if kind in request.kinds else None
        path = own or settings.config_dir / "models" / f"{kind}.toml"
        config = load_config(kind, path, required=own is not None)
        fits[kind] = FitRequest(kind, config, at_ms, window_ms, request.seed)
    return fits


def _measured(
    table: pa.Table, request: TrainRequest, fits: Mapping[str, FitRequest], *, say: Say
) -> dict[str, Metrics]:
    """Return the metrics of each model on the held-out days; none where nothing can be learned or ranked."""
    at_ms = to_ms(request.until - HELD_OUT)
    try:
        taken, known = held_out_baskets(table, at_ms=at_ms, until=request.until)
    except TrainingError as error:
        say(f"not measured: {error}")
        return {}
    measured = {}
    for kind, fit in fits.items():
        say(f"{kind}: training up to {from_ms(at_ms):%Y-%m-%d}, ranking {len(taken):,} baskets of the days after")
        try:
            model = fit_remotely(table, replace(fit, at_ms=at_ms))
        except TrainingError as error:
            say(f"{kind}: not measured: {error}")
            continue
        measured[kind] = measure(model, taken, known, at_ms=at_ms, lengths=LENGTHS)
    return measured


@dataclass(frozen=True, slots=True)
class _About:
    """What every bundle of one training holds besides its model."""

    window: Window
    fingerprint: str
    reference: pa.Table | None
    """Features of everybody at the cut; None where the lake holds no states from before it."""
    items: Mapping[str, Item]
    created_at: datetime
    git_revision: str | None


def _about(table: pa.Table, request: TrainRequest, lake: Lake) -> _About:
    since, until_ms = request.until - request.window, to_ms(request.until)
    states = lake.latest_states(until_ms=until_ms)
    return _About(
        window=Window(since=since, until=request.until),
        fingerprint=fingerprint(within(table, since_ms=to_ms(since), until_ms=until_ms)),
        reference=feature_table(states, at_ms=until_ms) if states.num_rows else None,
        items={item.item_id: item for item in lake.catalog()},
        created_at=datetime.now(UTC),
        git_revision=_git_revision(),
    )


def _publish(model: Model, about: _About, store: BundleStore, *, metrics: Metrics) -> str:
    versions = store.versions(model.kind)

    def write(folder: Path) -> None:
        write_bundle(
            folder,
            model,
            name=model.kind,
            version=folder.name,
            window=about.window,
            fingerprint=about.fingerprint,
            metrics=metrics,
            feature_service=model.kind,
            parent=versions[-1] if versions else None,
            git_revision=about.git_revision,
            created_at=about.created_at,
            # An item without a catalog entry is known by its id alone.
            items=[about.items.get(item_id, Item(item_id)) for item_id in model.vocabulary.ids],
            reference=about.reference,
        )

    return f"{model.kind}@{store.publish(model.kind, write, at=about.created_at)}"


def _git_revision() -> str | None:
    """Return the revision of the checkout that this runs from, or None."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
