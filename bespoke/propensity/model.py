"""A propensity model: small trees on a profile's signals, calibrated, one number from 0 to 1 per person.

Shapes: N examples, S signals, B people of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bespoke.clock import DAY_MS, from_ms
from bespoke.errors import BundleError, TrainingError, shown
from bespoke.profiles import Profile
from bespoke.propensity.calibration import Calibration
from bespoke.propensity.config import PropensityConfig
from bespoke.propensity.quality import LabelArray, ScoreArray, measures, strongest
from bespoke.propensity.signals import SIGNAL_NAMES, signals

if TYPE_CHECKING:
    from lightgbm import Booster

MIN_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Examples:
    """What was known of people at some times, and what came of it."""

    signal_NS: ScoreArray
    """By :data:`bespoke.propensity.signals.SIGNAL_NAMES`; NaN where there is nothing to derive a signal from."""
    label_N: LabelArray
    first_ms: int
    """The earliest time at which people were looked at."""
    last_ms: int
    """The latest one; labels look ahead from there."""

    def __len__(self) -> int:
        return len(self.label_N)

    @classmethod
    def concat(cls, parts: "Sequence[Examples]") -> "Examples":
        """Return the examples of all parts, of which there is at least one."""
        return cls(
            np.concatenate([part.signal_NS for part in parts]),
            np.concatenate([part.label_N for part in parts]),
            min(part.first_ms for part in parts),
            max(part.last_ms for part in parts),
        )


@dataclass(frozen=True)
class Propensity:
    """A trained score. It never changes, so threads may share it."""

    kind: ClassVar[str] = "propensity"

    config: PropensityConfig
    trees: str
    """LightGBM's own text form."""
    calibration: Calibration

    @classmethod
    def fit(
        cls, train: Examples, validation: Examples, *, config: PropensityConfig, seed: int = 0, threads: int = 1
    ) -> "Propensity":
        """Grow trees on ``train`` until ``validation`` gains no more, and calibrate them there.

        Args:
            train: what to learn from.
            validation: later examples; none of them begins before the last label of ``train`` is known.
            config: the settings of the score.
            seed: equal seeds and examples give equal models.
            threads: how many to grow trees with; the model is the same.

        Raises:
            TrainingError: too few examples of either outcome, signals that are infinite, or labels of ``train`` that
                look into the time of ``validation``.
        """
        known_ms = train.last_ms + config.horizon_days * DAY_MS
        if known_ms > validation.first_ms:
            raise TrainingError(
                f"what came of the training examples is known on {from_ms(known_ms):%Y-%m-%d}, and validation begins "
                f"on {from_ms(validation.first_ms):%Y-%m-%d} already; leave out the latest training examples"
            )
        for part, name in ((train, "training"), (validation, "validation")):
            _require_sound(part, name, config)
        trees = _grow(train, validation, config, seed=seed, threads=threads)
        grown = cls(config, trees, Calibration(1.0, 0.0))
        return cls(config, trees, Calibration.fit(grown._logits(validation.signal_NS), validation.label_N))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The signals that it was trained with, in order."""
        return tuple(self._booster.feature_name())

    def score(self, signal_BS: ScoreArray, *, names: Sequence[str] = SIGNAL_NAMES) -> ScoreArray:
        """Return scores [B] from 0 to 1.

        Args:
            signal_BS: one row per person.
            names: of the columns of ``signal_BS``.

        Raises:
            BundleError: a signal that it was trained with is not among the columns.
        """
        return self.calibration(self._logits(self._columns(signal_BS, tuple(names))))

    def _columns(self, signal_BS: ScoreArray, names: tuple[str, ...]) -> ScoreArray:
        missing = sorted(set(self.names) - set(names))
        if missing or signal_BS.shape[1:] != (len(names),):
            raise BundleError(
                f"this score reads {len(self.names)} signals, got an array {signal_BS.shape} of {len(names)} names "
                f"without {shown(missing, limit=300)}; train it again"
            )
        return signal_BS if names == self.names else signal_BS[:, [names.index(name) for name in self.names]]

    def score_profile(self, profile: Profile, at_ms: int) -> float:
        """Return the score of one person as seen at ``at_ms``."""
        return float(self.score(signals(profile, at_ms)[None, :])[0])

    def measure(self, test: Examples) -> dict[str, float]:
        """Return how good the scores of ``test`` are, beside the strongest single signal there.

        Raises:
            TrainingError: too few examples of either outcome.
        """
        _require_sound(test, "test", self.config)
        single = strongest(test.signal_NS, test.label_N, names=self.names)
        return measures(self.score(test.signal_NS), test.label_N, single)

    def _logits(self, signal_BS: ScoreArray) -> ScoreArray:
        # One thread: for a row, waking up others takes longer than all the trees.
        return np.asarray(self._booster.predict(signal_BS, raw_score=True, num_threads=1), dtype=np.float64)

    @cached_property
    def _booster(self) -> "Booster":
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        try:
            return Booster(model_str=self.trees)
        except LightGBMError as error:
            raise BundleError(f"the trees of a {self.config.target} score cannot be read: {error}") from None


def scores(models: Mapping[str, Propensity], profile: Profile, at_ms: int) -> dict[str, float]:
    """Return each model's score of one person as seen at ``at_ms``; the profile is read once for all of them."""
    if not models:
        return {}
    signal_BS = signals(profile, at_ms)[None, :]
    return {name: float(model.score(signal_BS)[0]) for name, model in models.items()}


def _grow(train: Examples, validation: Examples, config: PropensityConfig, *, seed: int, threads: int) -> str:
    import lightgbm

    known = lightgbm.Dataset(train.signal_NS, train.label_N.astype(np.float32), feature_name=list(SIGNAL_NAMES))
    later = known.create_valid(validation.signal_NS, validation.label_N.astype(np.float32))
    stopping = lightgbm.early_stopping(config.patience, verbose=False)
    grown = lightgbm.train(
        _parameters(config, seed=seed, threads=threads),
        known,
        config.max_trees,
        valid_sets=[later],
        callbacks=[stopping],
    )
    return str(grown.model_to_string(num_iteration=grown.best_iteration))


def _parameters(config: PropensityConfig, *, seed: int, threads: int) -> dict[str, Any]:
    return {
        "objective": "binary",
        # Each split tries one random threshold per signal: as good on many examples, and much better on few.
        # Source: Geurts, Ernst and Wehenkel, Extremely Randomized Trees, 2006.
        "extra_trees": True,
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.leaf_rows,
        "feature_fraction": config.signal_share,
        "bagging_fraction": config.row_share,
        "bagging_freq": 1,
        "lambda_l2": config.l2,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }


def _require_sound(part: Examples, name: str, config: PropensityConfig) -> None:
    if np.isinf(part.signal_NS).any():
        raise TrainingError(f"{name} examples hold infinite signals; only NaN may stand for what is not known")
    happened = int(part.label_N.sum())
    rarer = min(happened, len(part) - happened)
    if rarer < MIN_EXAMPLES:
        raise TrainingError(
            f"{config.target} within {config.horizon_days} days: {happened} of {len(part)} {name} examples, expected "
            f"{MIN_EXAMPLES} or more of either outcome; widen the window, or change horizon_days or active_days"
        )
