"""Search for settings: Ray Tune over a kind's search space, on cuts before the test days."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from bespoke.catalog import Catalog
from bespoke.clock import from_ms, to_ms
from bespoke.errors import ConfigError, TrainingError
from bespoke.events import UserId
from bespoke.models.base import ModelConfig
from bespoke.models.history import History
from storage.lake import Lake
from storage.settings import Settings
from training.catalog import known_catalog
from training.configs import load_config, write_config
from training.dataset import Basket, histories, read_interactions, require_recent, within
from training.dataset import baskets as baskets_of
from training.evaluate import Say, measure, sampled
from training.fit import FitRequest, fit
from training.gate import METRIC
from training.search_space import Space, load_space, space_path, with_values
from training.windows import HELD_OUT, Windows

LENGTH = 20
MAX_BASKETS = 2_000
"""Ranked per cut and trial."""


@dataclass(frozen=True, slots=True)
class TuneRequest:
    """What to search for."""

    kind: str
    until: datetime
    """The same cut as the training that follows; the search does not see the test days before it."""
    window: timedelta
    trials: int
    cuts: int = 3
    """How many weeks the settings have to do well in."""
    seed: int = 0
    resume: bool = False
    """Go on with the search that was interrupted."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One tried setting."""

    values: dict[str, Any]
    score: float
    """Mean NDCG@20 over the cuts that it was tried on; NaN where it failed."""
    cuts: int
    """Fewer than wanted: it was stopped early."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found."""

    config: ModelConfig
    best: Trial
    current: Trial | None
    """The settings as they are, if the search could try them."""
    trials: tuple[Trial, ...]
    """Best first."""
    path: Path
    """The best settings, as a file that training takes."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """One week to be judged on."""

    at_ms: int
    taken: list[Basket]
    known: dict[UserId, History]
    catalog: Catalog


def search(request: TuneRequest, settings: Settings, *, say: Say) -> Tuned:
    """Try settings of a kind, seeded and one after another; poor ones are stopped after their first weeks.

    Raises:
        ConfigError: the settings or the search space are wrong, or there is nothing to resume.
        NotFound: no such kind.
        TrainingError: there are too few days to search on, or every trial failed.
    """
    config = load_config(request.kind, settings.config_dir / "models" / f"{request.kind}.toml")
    space = load_space(request.kind, space_path(request.kind, settings))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = settings.tune_dir / request.kind
    if not request.resume:
        shutil.rmtree(folder, ignore_errors=True)
    say("reading the lake")
    table, cuts = _read(request, settings, say=say)
    fit_request = FitRequest(request.kind, config, 0, Windows(request.until, request.window).length_ms, request.seed)
    trainable = tune.with_parameters(_try, table=table, request=fit_request, cuts=cuts)
    tuner = _restored(trainable, folder) if request.resume else _new(trainable, request, space, config, folder, say)
    found = tuner.fit()
    trials = [_trial(found[number]) for number in range(len(found))]
    trials.sort(key=lambda one: (-one.cuts, -_or_least(one.score), str(one.values)))
    return _tuned(trials, config, folder, current=_current(space, config))


def _try(config: dict[str, Any], *, table: pa.Table, request: FitRequest, cuts: Sequence[_Cut]) -> None:
    """Fit and measure one setting on one week after another; the search may stop it between two."""
    settled = with_values(request.config, config)
    scores: list[float] = []
    for cut in cuts:
        model = fit(table, replace(request, config=settled, at_ms=cut.at_ms, catalog=cut.catalog))
        shown = measure(model, cut.taken, cut.known, at_ms=cut.at_ms, lengths=(LENGTH,))
        scores.append(shown.means[METRIC])
        tune.report({METRIC: float(np.mean(scores)), "cuts": len(scores)})


def _new(trainable: Any, request: TuneRequest, space: Space, config: ModelConfig, folder: Path, say: Say) -> tune.Tuner:
    current = _current(space, config)
    searcher = OptunaSearch(
        {name: tried.distribution() for name, tried in space.items()},
        points_to_evaluate=[] if current is None else [current],
        sampler=optuna.samplers.TPESampler(seed=request.seed, n_startup_trials=max(5, request.trials // 4)),
        metric=METRIC,
        mode="max",
    )
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=request.trials,
            # One after another: the same seed then gives the same trials, and each has the machine for itself.
            search_alg=ConcurrencyLimiter(searcher, max_concurrent=1),
            scheduler=ASHAScheduler(max_t=request.cuts, grace_period=1, reduction_factor=2),
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.absolute()),
            verbose=0,
            callbacks=[_Progress(request.trials, say)],
        ),
    )


def _restored(trainable: Any, folder: Path) -> tune.Tuner:
    if not tune.Tuner.can_restore(str(folder.absolute())):
        raise ConfigError(f"no search to go on with in {folder}; start one without --resume")
    return tune.Tuner.restore(
        str(folder.absolute()), trainable=tune.with_resources(trainable, {"cpu": 1}), resume_errored=True
    )


def _read(request: TuneRequest, settings: Settings, *, say: Say) -> tuple[pa.Table, list[_Cut]]:
    """Return the lines before the test days, and the weeks to be judged on."""
    windows = Windows(request.until, request.window)
    until_ms = to_ms(windows.test_from)
    lake = Lake(settings.lake_dir)
    require_recent(lake, since_ms=to_ms(windows.validate_from))
    table = read_interactions(lake, since_ms=None, until_ms=until_ms, cache=settings.cache_dir / "lines")
    cuts = [_cut(settings, table, at_ms=to_ms(at)) for at in windows.validation_cuts(request.cuts)]
    whole = [cut for cut in cuts if cut is not None]
    if not whole:
        raise TrainingError(
            f"there are no two weeks of baskets before {windows.test_from:%Y-%m-%d} to search on; bring in more days"
        )
    if len(whole) < request.cuts:
        say(f"the data reaches back for {len(whole)} of {request.cuts} weeks")
    return table, whole


def _cut(settings: Settings, table: pa.Table, *, at_ms: int) -> _Cut | None:
    until_ms = to_ms(from_ms(at_ms) + HELD_OUT)
    taken = sampled(baskets_of(within(table, since_ms=at_ms, until_ms=until_ms)), at_most=MAX_BASKETS)
    if not taken or not within(table, since_ms=None, until_ms=at_ms).num_rows:
        return None
    known = histories(table, at_ms=at_ms, users=sorted({one.user_id for one in taken}))
    return _Cut(at_ms, taken, known, known_catalog(settings, table, at_ms=at_ms))


def _current(space: Space, config: ModelConfig) -> dict[str, Any] | None:
    """Return the settings as they are, where they lie in the space."""
    raw = config.model_dump(mode="python")
    values = {}
    for name, tried in space.items():
        value: Any = raw
        for part in name.split("."):
            value = value[part]
        distribution = tried.distribution()
        try:
            inside = distribution._contains(distribution.to_internal_repr(value))
        except ValueError:
            inside = False
        if not inside:
            return None
        values[name] = value
    return values


def _trial(result: Any) -> Trial:
    metrics = result.metrics or {}
    return Trial(dict(result.config or {}), float(metrics.get(METRIC, math.nan)), int(metrics.get("cuts", 0)))


def _tuned(trials: Sequence[Trial], config: ModelConfig, folder: Path, *, current: dict[str, Any] | None) -> Tuned:
    best = trials[0] if trials else None
    if best is None or math.isnan(best.score):
        raise TrainingError(f"every trial failed; what went wrong is in {folder}")
    settled = with_values(config, best.values)
    path = folder.with_name(f"{folder.name}.toml")
    write_config(settled, path)
    same = next((one for one in trials if one.values == current), None)
    return Tuned(settled, best, same, tuple(trials), path)


def _or_least(score: float) -> float:
    return -math.inf if math.isnan(score) else score


class _Progress(tune.Callback):
    """Says each finished trial, and the best so far."""

    def __init__(self, trials: int, say: Say) -> None:
        self._trials, self._say = trials, say
        self._ended, self._best = 0, -math.inf

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say how one ended."""
        result = trial.last_result or {}
        score = float(result.get(METRIC, math.nan))
        self._ended += 1
        self._best = max(self._best, _or_least(score))
        self._say(
            f"trial {self._ended}/{self._trials}: {METRIC} {score:.4f} over {result.get('cuts', 0)} weeks, "
            f"best {self._best:.4f}: {_shown(trial.config)}"
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that one failed."""
        self._ended += 1
        self._say(f"trial {self._ended}/{self._trials}: failed: {_shown(trial.config)}")


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
