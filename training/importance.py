"""Importance: what each feature adds to a model, by shuffling it among examples that the model did not learn from.

A feature that a model makes no use of can be shuffled without harm; what the metric loses is what the feature adds.
Each repeat shuffles anew and draws the examples anew with replacement, so that the interval holds both the luck of the
shuffle and that of the examples. Features that say the same stand in for one another: each of two such adds little.
Source: Breiman, Random Forests, 2001; Fisher, Rudin and Dominici, All Models are Wrong, but Many are Useful, 2019.

Shapes: N examples, S signals, R repeats; U baskets, C candidates of one, F features of the blend.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from bespoke.clock import to_ms
from bespoke.errors import ConfigError, TrainingError
from bespoke.models.base import Basis
from bespoke.models.blend import Blend
from bespoke.models.blend_sources import FEATURES, weighted_sum
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.metrics import values_of_lists
from bespoke.propensity.config import PropensityConfig
from bespoke.propensity.model import Examples, Propensity
from bespoke.propensity.quality import auc
from bespoke.propensity.signals import SIGNAL_NAMES
from storage.lake import Lake
from storage.settings import Settings
from training.configs import load_config
from training.dataset import Basket, read_interactions, require_recent
from training.evaluate import Say, held_out_baskets
from training.fit import FitRequest, fit
from training.propensity import load_score, score_paths
from training.propensity_examples import examples_of, joined, looks_back, parted
from training.windows import HELD_OUT

LENGTH = 20
INTERVAL = (2.5, 97.5)

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ImportanceRequest:
    """What to rank the features of."""

    models: tuple[str, ...]
    """Scores of config/scores/, or ``blend``; empty for all of them."""
    until: datetime
    """The cut: the examples to measure on are the latest before it."""
    window: timedelta
    repeats: int = 20
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """What one feature adds."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Importance:
    """What each feature of one model adds, the most first."""

    model: str
    metric: str
    reached: float
    """The metric with every feature as it is."""
    examples: int
    of: str
    """What the examples are."""
    features: tuple[Added, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        features = [{"name": one.name, "adds": one.mean, "low": one.low, "high": one.high} for one in self.features]
        about = {"model": self.model, "metric": self.metric, "reached": self.reached, "examples": self.examples}
        return {**about, "of": self.of, "features": features}


def importances(request: ImportanceRequest, settings: Settings, *, say: Say) -> list[Importance]:
    """Train each model on what came before the latest examples, and shuffle its features among those.

    Raises:
        ConfigError: a model is not known here, or its settings are wrong.
        TrainingError: there is too little to learn from or to measure on.
    """
    paths = {path.stem: path for path in score_paths(settings.config_dir)}
    names = request.models or (*paths, Blend.kind)
    unknown = [name for name in names if name not in paths and name != Blend.kind]
    if unknown:
        known = ", ".join([*paths, Blend.kind])
        raise ConfigError(f"no score or model with features is called {unknown[0]!r}; there are: {known}")
    configs = {name: load_score(paths[name]) for name in names if name in paths}
    return [
        _of_score(name, configs[name], request, settings, say=say)
        if name in configs
        else _of_blend(request, settings, say)
        for name in names
    ]


def _of_score(
    name: str, config: PropensityConfig, request: ImportanceRequest, settings: Settings, *, say: Say
) -> Importance:
    since, until = request.until - request.window, request.until
    looks = looks_back(since_ms=to_ms(since), until_ms=to_ms(until), config=config)
    parts = parted(looks, config, tested=True)
    say(f"{name}: looking back at people at {len(looks)} times")
    examples = dict(zip(looks, examples_of(settings.lake_dir, looks, config), strict=True))
    say(f"{name}: training")
    train, validation = joined(examples, parts.train), joined(examples, parts.validation)
    model = Propensity.fit(train, validation, config=config, seed=request.seed)
    say(f"{name}: shuffling {len(SIGNAL_NAMES)} signals {request.repeats} times")
    return score_importance(name, model, joined(examples, parts.test), repeats=request.repeats, seed=request.seed)


def score_importance(name: str, model: Propensity, test: Examples, *, repeats: int, seed: int = 0) -> Importance:
    """Return what each signal adds to the AUC of a score on ``test``, which it did not learn from.

    Raises:
        TrainingError: ``test`` holds one outcome only.
    """
    label_N = test.label_N
    if label_N.all() or not label_N.any():
        raise TrainingError(f"{name}: all {len(test)} test examples had the same outcome; choose another --until")

    def values(signal_NS: Doubles) -> Doubles:
        return model.score(signal_NS)

    def loss(base_N: Doubles, shuffled_N: Doubles, drawn_N: npt.NDArray[np.int64]) -> float:
        drawn = label_N[drawn_N]
        return auc(base_N[drawn_N], drawn) - auc(shuffled_N[drawn_N], drawn)

    base_N = values(test.signal_NS)
    added = _shuffled(test.signal_NS, SIGNAL_NAMES, values, loss, base_N, repeats=repeats, seed=seed)
    return Importance(name, "auc", auc(base_N, label_N), len(test), "test examples", added)


def _shuffled(
    value_NF: Doubles,
    names: Sequence[str],
    values: Callable[[Doubles], Doubles],
    loss: Callable[[Doubles, Doubles, npt.NDArray[np.int64]], float],
    base: Doubles,
    *,
    repeats: int,
    seed: int,
) -> tuple[Added, ...]:
    """Return what each column adds, the most first.

    Args:
        value_NF: one row per example; the last axis is the feature.
        names: of the features.
        values: of such an array, one value or row of values per example.
        loss: by how much ``values`` of the drawn examples are worse than the base.
        base: ``values(value_NF)``.
        repeats: how often each feature is shuffled.
        seed: equal seeds give equal answers.
    """
    random, found = np.random.default_rng(seed), []
    for column, name in enumerate(names):
        losses, changed_NF = [], value_NF.copy()
        for _ in range(repeats):
            flat = value_NF[..., column].ravel()
            changed_NF[..., column] = random.permutation(flat).reshape(value_NF.shape[:-1])
            drawn_N = random.integers(0, len(value_NF), len(value_NF))
            losses.append(loss(base, values(changed_NF), drawn_N))
        low, high = np.nanpercentile(losses, INTERVAL)
        found.append(Added(name, float(np.nanmean(losses)), float(low), float(high)))
    return tuple(sorted(found, key=lambda one: -one.mean))


def _of_blend(request: ImportanceRequest, settings: Settings, say: Say) -> Importance:
    config = load_config(Blend.kind, settings.config_dir / "models" / f"{Blend.kind}.toml")
    lake, at_ms = Lake(settings.lake_dir), to_ms(request.until - HELD_OUT)
    require_recent(lake, since_ms=at_ms)
    table = read_interactions(lake, since_ms=None, until_ms=to_ms(request.until))
    taken, known = held_out_baskets(table, at_ms=at_ms, until=request.until)
    say(f"blend: training up to {request.until - HELD_OUT:%Y-%m-%d}")
    model = fit(table, FitRequest(Blend.kind, config, at_ms, round(request.window.total_seconds() * 1000)))
    assert isinstance(model, Blend)
    say(f"blend: shuffling {len(FEATURES)} features {request.repeats} times over {len(taken):,} baskets")
    cases = [(known.get(one.user_id, History(one.user_id, (), at_ms)), one) for one in taken]
    return blend_importance(model, cases, repeats=request.repeats, seed=request.seed)


def blend_importance(
    model: Blend, cases: Sequence[tuple[History, Basket]], *, repeats: int, seed: int = 0
) -> Importance:
    """Return what each feature adds to a blend's ndcg on baskets that it has not seen.

    The candidates stay those of the model; what is shuffled is what orders them, in the sum and in the trees alike.

    Raises:
        TrainingError: nothing is known of anybody whose basket it is.
    """
    known = [(history, one) for history, one in cases if model.basis(history) is not Basis.POPULARITY]
    if not known:
        raise TrainingError("blend: nothing is known of the people whose baskets were held out; choose another --until")
    pools = [_pool(model, history) for history, _ in known]
    feature_UCF = np.stack([feature_CF for _, feature_CF, _ in pools]).astype(np.float64)
    weight_US = np.stack([weight_S for _, _, weight_S in pools])
    relevant_UC = np.stack(
        [np.isin(row_C, model.vocabulary.rows(one.items)) for (row_C, _, _), (_, one) in zip(pools, known, strict=True)]
    )
    wanted_U = np.array([len(one.items) for _, one in known])

    def ndcg(changed_UCF: Doubles) -> Doubles:
        score_UC = _scores(model, changed_UCF, weight_US)
        best_UK = np.argsort(-score_UC, axis=1, kind="stable")[:, :LENGTH]
        hit_UK = np.take_along_axis(relevant_UC, best_UK, axis=1)
        return np.asarray(values_of_lists(hit_UK, wanted_U, ks=(LENGTH,))[f"ndcg@{LENGTH}"], dtype=np.float64)

    def loss(base_U: Doubles, shuffled_U: Doubles, drawn_U: npt.NDArray[np.int64]) -> float:
        return float((base_U - shuffled_U)[drawn_U].mean())

    base_U = ndcg(feature_UCF)
    added = _shuffled(feature_UCF, FEATURES, ndcg, loss, base_U, repeats=repeats, seed=seed)
    return Importance(Blend.kind, f"ndcg@{LENGTH}", float(base_U.mean()), len(known), "held-out baskets", added)


def _pool(model: Blend, history: History) -> tuple[Any, Any, Any]:
    """Return the candidates [C] of one person, their features [C, F], and the weights [S] of the sum."""
    config = model.config
    own = model.own_of(history)
    als_I = model.als.scores(history)
    sum_I = weighted_sum(model.learned.weights_GS, own, rebuy_I=model.rebuy_I, als_I=als_I, popular_I=model._popular_I)
    row_C = np.sort(top_k(sum_I, k=config.candidates))
    return row_C, model._features(row_C, own, als_I[row_C]), model.learned.weights_GS[own.bucket]


def _scores(model: Blend, feature_UCF: Doubles, weight_US: Any) -> Doubles:
    """Return the scores [U, C] that follow from features alone, as :meth:`Blend.scores` adds them up."""
    of = {name: feature_UCF[:, :, column] for column, name in enumerate(FEATURES)}
    personal_UC = np.sqrt(of["mass"])
    source_UCS = np.stack([personal_UC, of["rebuy"] * personal_UC, of["als"], of["popularity"]], axis=2)
    sum_UC = np.einsum("ucs,us->uc", source_UCS, weight_US)
    if not len(model.learned.trees):
        return np.asarray(sum_UC, dtype=np.float64)
    people, candidates, features = feature_UCF.shape
    flat = model.learned.trees.scores(feature_UCF.reshape(-1, features).astype(np.float32))
    return np.asarray(sum_UC + flat.reshape(people, candidates), dtype=np.float64)
