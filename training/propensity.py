"""Propensity scores: learn from earlier looks back, measure on later ones, learn anew up to the cut, publish."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.exceptions

from bespoke.clock import from_ms, to_ms
from bespoke.errors import BespokeError, ConfigError
from bespoke.models.bundle import Window
from bespoke.models.registry import MODELS
from bespoke.models.verdict import Verdict
from bespoke.propensity.bundle import write_score
from bespoke.propensity.config import PropensityConfig
from bespoke.propensity.model import Examples, Propensity
from bespoke.propensity.quality import strongest_of
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.reference import feature_table
from storage.settings import Settings
from storage.toml import read_toml, validated
from training.evaluate import Metrics, Say
from training.propensity_examples import Parts, examples_of, fingerprint, joined, looks_back, parted
from training.publish import git_revision

SCORES = "scores"
SEARCH_SUFFIX = "-search"
READERS = 4
"""How many tasks share the looks back; each begins with everybody's state at its first one."""


@dataclass(frozen=True, slots=True)
class PropensityRequest:
    """Which scores to train."""

    names: tuple[str, ...]
    """Of files in config/scores/."""
    until: datetime
    """The cut: nothing from this time on is seen, neither to learn from nor to measure on."""
    window: timedelta
    seed: int = 0


@dataclass(frozen=True, slots=True)
class TrainedScores:
    """What was published."""

    references: dict[str, str]
    """NAME@VERSION by name."""
    metrics: dict[str, Metrics]
    """By name, of people and times that were not learned from; see :func:`bespoke.propensity.quality.measures`."""
    verdicts: dict[str, Verdict]
    seconds: float


def score_paths(config_dir: Path) -> list[Path]:
    """Return the file of every score that is configured; a score is called as its file is."""
    return sorted(path for path in (config_dir / SCORES).glob("*.toml") if not path.stem.endswith(SEARCH_SUFFIX))


def load_score(path: Path) -> PropensityConfig:
    """Return the settings of a score.

    Raises:
        ConfigError: there is no such file, it is no TOML, or an entry is unknown, missing or out of bounds.
    """
    return validated(PropensityConfig, read_toml(path), path)


def train_propensity(request: PropensityRequest, settings: Settings, *, say: Say) -> TrainedScores:
    """Measure each score on the latest looks back, train it anew up to the cut, publish it.

    Raises:
        ConfigError: the settings are missing or wrong.
        TrainingError: the window is too short, nobody was known in it, or all had the same outcome.
    """
    started = time.perf_counter()
    configs = {name: _config(name, settings) for name in request.names}
    done = TrainedScores({}, {}, {}, 0.0)
    for name, config in configs.items():
        reference, metrics, verdict = _train(name, config, request, settings, say=say)
        done.references[name], done.metrics[name], done.verdicts[name] = reference, metrics, verdict
    return TrainedScores(done.references, done.metrics, done.verdicts, time.perf_counter() - started)


def _config(name: str, settings: Settings) -> PropensityConfig:
    path = settings.config_dir / SCORES / f"{name}.toml"
    if name in MODELS:
        raise ConfigError(f"{path}: a kind of model is called {name!r}, and versions are published by name; rename it")
    return load_score(path)


def _train(
    name: str, config: PropensityConfig, request: PropensityRequest, settings: Settings, *, say: Say
) -> tuple[str, Metrics, Verdict]:
    window = Window(since=request.until - request.window, until=request.until)
    looks = looks_back(since_ms=to_ms(window.since), until_ms=to_ms(window.until), config=config)
    measured, final = parted(looks, config, tested=True), parted(looks, config, tested=False)
    say(f"{name}: looking back at people at {len(looks)} times")
    shares = [share.tolist() for share in np.array_split(looks, min(READERS, len(looks)))]
    found = _in_tasks(examples_of, [(settings.lake_dir, share, config) for share in shares])
    examples = dict(zip(looks, chain.from_iterable(found), strict=True))
    say(f"{name}: training, measuring on {len(measured.test)} later times")
    metrics = _fit(examples, measured, config, seed=request.seed).measure(joined(examples, measured.test))
    verdict = judge(metrics)
    say(f"{name}: {summary(metrics)}")
    model = _fit(examples, final, config, seed=request.seed)
    learned = fingerprint(joined(examples, [*final.train, *final.validation]))
    # What the measured model learned from was known when the test began.
    seen = Window(since=window.since, until=from_ms(measured.test[0]))
    reference = _publish(name, model, window, learned, metrics, seen, verdict, settings, seed=request.seed)
    say(f"published {reference}")
    return reference, metrics, verdict


def judge(metrics: Metrics) -> Verdict:
    """Return whether a score may serve: it has to rank better than the strongest single signal."""
    single = strongest_of(metrics)
    if single is None or metrics["auc"] > single.auc:
        return Verdict(passed=True)
    reason = f"auc {metrics['auc']:.4f} does not beat {single.name} alone, {single.auc:.4f}"
    return Verdict(passed=False, reasons=(reason,))


def summary(metrics: Metrics) -> str:
    """Return the metrics of a score in a line, the strongest single signal beside it.

    >>> summary({"auc": 0.8, "ece": 0.01, "base_rate": 0.5, "single_auc:recency_days": 0.75})
    'auc 0.8000 (recency_days alone 0.7500), calibration error 0.0100, base rate 0.500'
    """
    single = strongest_of(metrics)
    beside = "" if single is None else f" ({single.name} alone {single.auc:.4f})"
    ranks = f"auc {metrics['auc']:.4f}{beside}"
    return f"{ranks}, calibration error {metrics['ece']:.4f}, base rate {metrics['base_rate']:.3f}"


def _fit(examples: dict[int, Examples], parts: Parts, config: PropensityConfig, *, seed: int) -> Propensity:
    train, validation = joined(examples, parts.train), joined(examples, parts.validation)
    [model] = _in_tasks(_fitted, [(train, validation, config, seed)])
    fitted: Propensity = model
    return fitted


def _fitted(train: Examples, validation: Examples, config: PropensityConfig, seed: int) -> Propensity:
    return Propensity.fit(train, validation, config=config, seed=seed)


def _in_tasks(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return what each call returns, as Ray tasks; what they raise on purpose comes back as it was."""
    remote = ray.remote(function)
    try:
        return list(ray.get([remote.remote(*call) for call in calls]))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BespokeError):
            raise error.cause from None
        raise


def _publish(
    name: str,
    model: Propensity,
    window: Window,
    learned: str,
    metrics: Metrics,
    measured: Window,
    verdict: Verdict,
    settings: Settings,
    *,
    seed: int,
) -> str:
    store, until_ms, at = BundleStore(settings.bundles_dir), to_ms(window.until), datetime.now(UTC)
    states = Lake(settings.lake_dir).latest_states(until_ms=until_ms)

    def write(folder: Path) -> None:
        write_score(
            folder,
            model,
            name=name,
            version=folder.name,
            window=window,
            fingerprint=learned,
            metrics=metrics,
            measured=measured,
            gate=verdict,
            seed=seed,
            feature_service=model.kind,
            parent=None,
            git_revision=git_revision(),
            created_at=at,
            reference=feature_table(states, at_ms=until_ms) if states.num_rows else None,
        )

    return f"{name}@{store.publish(name, write, at=at)}"
