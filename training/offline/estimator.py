"""Optuna's estimator as a search uses it: taught what is known, asked for what to try next.

Source: Bergstra, Bardenet, Bengio, Kégl 2011, "Algorithms for Hyper-Parameter Optimization".
"""

from collections.abc import Mapping
from typing import Any

NEAR = 6.0
"""The estimator looks for values between the best one over this and the best one times this."""


class Estimator:
    """A tree-structured Parzen estimator over a space; equal seeds and scores give equal suggestions."""

    def __init__(self, space: Mapping[str, Any], *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = dict(space)
        self._study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        )

    def teach(self, settings: Mapping[str, Any], score: float) -> None:
        """Tell of settings that it did not suggest, where all of them lie in the space."""
        import optuna

        values = {name: settings[name] for name in self.space}
        if all(_contains(self.space[name], value) for name, value in values.items()):
            known = optuna.trial.create_trial(params=values, distributions=self.space, value=score)
            self._study.add_trial(known)

    def ask(self) -> Any:
        """Return a suggestion, whose ``params`` are the settings."""
        return self._study.ask(self.space)

    def tell(self, asked: Any, score: float) -> None:
        """Say what a suggestion scored."""
        self._study.tell(asked, score)


def near(distribution: Any, value: Any) -> Any:
    """Return the part of an Optuna distribution that lies around a value; all of it where there is no such part.

    >>> from optuna.distributions import FloatDistribution
    >>> near(FloatDistribution(0.001, 10.0, log=True), 0.06).high
    0.36
    """
    if hasattr(distribution, "choices"):
        return _neighbours(distribution, value)
    if value is None:
        return distribution
    low, high = distribution.low, distribution.high
    apart = (high - low) / NEAR
    bounds = (value / NEAR, value * NEAR) if distribution.log else (value - apart, value + apart)
    # A good start may lie outside of the space; then the space around it is searched all the same.
    near_low, near_high = max(bounds[0], min(low, value)), min(bounds[1], max(high, value))
    if isinstance(low, int):
        near_low, near_high = round(near_low), round(near_high)
    if not near_low < near_high:
        return distribution
    return type(distribution)(near_low, near_high, log=distribution.log)


def _neighbours(distribution: Any, value: Any) -> Any:
    """Return a value and the choices next to it; all where they are no numbers in order, or do not hold it."""
    choices = distribution.choices
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in choices)
    if value not in choices or not numbers or list(choices) != sorted(choices):
        return distribution
    place = choices.index(value)
    return type(distribution)(choices[max(0, place - 1) : place + 2])


def _contains(distribution: Any, value: Any) -> bool:
    if hasattr(distribution, "choices"):
        return value in distribution.choices
    return bool(distribution.low <= value <= distribution.high)
