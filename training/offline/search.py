"""Choosing settings on a part of train: hand-placed points, half-lives, bigger tables, and a search around the best.

A trial learns from one part and ranks for people of the other. Families that train in epochs are asked after each of
them, so the number of epochs comes out of the same measurement. Small tables come first, since what suits them nearly
suits bigger ones at a fraction of the time; tables then grow while that makes lists better and time allows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import ValidationError

from bespoke.models.arrays import AnyArray
from bespoke.models.base import Epoch, Interactions, Model, ModelConfig
from bespoke.models.history import InteractionWeights
from bespoke.models.registry import model_of_kind
from training.offline.budget import Budget
from training.offline.estimator import Estimator, near
from training.offline.measure import Task, ranking_values
from training.offline.ranking import rank
from training.offline.starts import Settings, half_lives, starts, typical_weight, weights_differ

FIRST_FACTORS = 32
MOST_EPOCHS = 20
PATIENCE = 2
"""Epochs without a better one after which training ends."""
HOPELESS = 0.6
"""A trial that is below this share of the best one after PATIENCE epochs is given up."""
TPE_TRIALS = 12
REFINED_FACTORS = 128
"""Tables up to this size serve the estimator, whose trials are many."""
DOUBLED = 2.2
"""How much longer everything takes with tables of twice the size."""
SLACK = 1.2
"""How much longer than a trial lets expect training and ranking may take in the end."""
STARTS_SHARE, HALF_LIVES_SHARE, GROW_SHARE = 0.25, 0.4, 0.8
"""Which share of a search's time may have gone by when each part of it ends; refining has what is left."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried."""

    settings: Mapping[str, Any]
    score: float
    """NDCG at the longest list, on the part that was held out of train."""
    epochs: int | None
    """The best number of epochs; None where the family has none."""
    seconds: float
    fit_s: float
    rank_s: float
    """Seconds of training and of ranking once."""

    def config(self, kind: str) -> ModelConfig:
        """Return what to train with."""
        settings = dict(self.settings) | ({} if self.epochs is None else {"epochs": self.epochs})
        return model_of_kind(kind).Config.model_validate(settings)


@dataclass
class Search:
    """Trials of one kind of model on one task."""

    kind: str
    task: Task
    """The part of train that is learned from, and the people of the held-out part."""
    budget: Budget
    end_s: float
    """Seconds since the budget's beginning at which training and ranking with what was found must have ended."""
    seed: int
    say: Say
    space: Mapping[str, Any] = field(default_factory=dict)
    """Settings and what may be tried of them, as :mod:`training.search_space` reads them."""
    trials: list[Trial] = field(default_factory=list)
    train_ratio: float = 1.0
    """All of train over what a trial learns from."""
    people_ratio: float = 1.0
    """People to rank for in the end over those of a trial."""
    most_factors: int | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are known already, and not searched."""
    ranking_s: float = 0.0
    """Seconds that ranking for everybody takes even the simplest model."""
    _until_s: float = field(init=False, default=0.0)
    _interactions: dict[InteractionWeights, Interactions] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The best trial yet; the earlier one of equal ones."""
        return max(self.trials, key=lambda trial: trial.score, default=None)

    def chosen(self) -> Trial | None:
        """Return the best trial with which there is still time to train and to rank; the quickest one where none is."""
        in_time = [trial for trial in self.trials if self.budget.spent_s + self.final_s(trial) < self.end_s]
        quickest = sorted(self.trials, key=self.final_s)[:1]
        return max(in_time or quickest, key=lambda trial: trial.score, default=None)

    @property
    def config_class(self) -> type[ModelConfig]:
        """What the settings must fit."""
        return model_of_kind(self.kind).Config

    def run(self) -> None:
        """Try settings until the time or what is to be tried is used up."""
        began_s = self.budget.spent_s
        parts = (
            (STARTS_SHARE, self._hand_placed),
            (HALF_LIVES_SHARE, self._each_half_life),
            (GROW_SHARE, self._grow),
            (1.0, self._refine),
        )
        for share, part in parts:
            self._until_s = began_s + share * (self.end_s - began_s)
            part()

    def attempt(self, settings: Settings, *, like: Trial | None = None) -> Trial | None:
        """Try settings; None where there is no time, they do not fit, or they were tried before.

        ``like`` is an earlier trial that took about as long; the last one where None.
        """
        if not self.time_for(like) or any(one.settings == settings for one in self.trials):
            return None
        try:
            config = self.config_class.model_validate(settings)
        except ValidationError:
            return None
        if "epochs" in self.config_class.model_fields:
            config = config.model_copy(update={"epochs": MOST_EPOCHS})
        trial = self._tried(settings, config)
        self.trials.append(trial)
        return trial

    def time_for(self, like: Trial | None, *, times: float = 1.0) -> bool:
        """Return whether there is time for a trial that takes so many times as long as another one, and for the end."""
        spent_s = self.budget.spent_s
        if not self.trials:
            return spent_s < self._until_s and spent_s + 2 * self.ranking_s < self.end_s
        like = like or self.trials[-1]
        # The first trial also loads and compiles what the others find ready.
        trial_s = times * (like.seconds if len(self.trials) > 1 else like.seconds / 2)
        final_s = max(times * self.final_s(like), *(self.final_s(trial) for trial in self.trials))
        return spent_s + trial_s < self._until_s and spent_s + trial_s + final_s < self.end_s

    def final_s(self, trial: Trial) -> float:
        """Return about how long it takes to train on everything and to rank for everybody with these settings."""
        return SLACK * (trial.fit_s * self.train_ratio + trial.rank_s * self.people_ratio)

    def _tried(self, settings: Settings, config: ModelConfig) -> Trial:
        started = self.budget.clock()
        watch = _Watch(self, bar=0.0 if self.best is None else self.best.score, started_s=started)
        model = self._fit(config, watch)
        if not watch.scores:
            fitted = self.budget.clock()
            watch.scores.append(self.score(model))
            watch.ranks_s.append(self.budget.clock() - fitted)
        seconds = self.budget.clock() - started
        best = int(np.argmax(watch.scores))
        fit_s = max(0.0, seconds - sum(watch.ranks_s))
        trial = Trial(
            settings,
            watch.scores[best],
            best + 1 if watch.in_epochs else None,
            seconds,
            fit_s=fit_s * (best + 1) / len(watch.scores),
            rank_s=min(watch.ranks_s),
        )
        self.say(f"{self.kind}: {_said(trial)}")
        return trial

    def _fit(self, config: ModelConfig, watch: "_Watch") -> Model:
        train, weights = self.task.train, config.interaction_weights
        if weights not in self._interactions:
            self._interactions[weights] = train.interactions(weights)
        return model_of_kind(self.kind).fit(
            self._interactions[weights],
            config=config,
            at_ms=train.cut_ms,
            seed=self.seed,
            catalog=self.task.catalog,
            on_epoch=watch,
        )

    def score(self, model: Model) -> float:
        """Return the mean NDCG of the longest list over the task's people."""
        return mean_ndcg(model, self.task, self.task.user_rows)

    def _hand_placed(self) -> None:
        """Try the hand-placed points, with small tables and without ageing."""
        base: Settings = {name: days[0] for name, days in half_lives(self.config_class, self.task.train).items()}
        if "factors" in self.config_class.model_fields:
            base["factors"] = min(FIRST_FACTORS, self._most_factors())
        weight = typical_weight(self.task.train, self.config_class())
        for settings in starts(self.kind, repeats=self.task.rules.repeats, weight=weight):
            self.attempt(base | settings | dict(self.fixed))

    def _each_half_life(self) -> None:
        """Try each half-life on the best settings yet, one setting after the other."""
        for name, choices in half_lives(self.config_class, self.task.train).items():
            for days in choices[1:] if name not in self.fixed else ():
                self._vary({name: days})
        if "mass_exponent" in self.config_class.model_fields and self._weights_matter():
            for exponent in (0.5, 0.0):
                self._vary({"mass_exponent": exponent})

    def _weights_matter(self) -> bool:
        return weights_differ(self.task.train, self.config_class())

    def _vary(self, change: Settings) -> None:
        best = self.best
        if best is not None:
            self.attempt(dict(best.settings) | change)

    def _refine(self) -> None:
        """Look around the best settings with tables that are quick, and try what is found with those that were best."""
        best = self.best
        if best is None:
            return
        small = self._quick(best)
        # What is found has to be tried once more with the tables that are best.
        self._until_s = self.end_s - (SLACK * (best.seconds + self.final_s(best)) if small is not best else 0.0)
        found = self._model_based(small)
        self._until_s = self.end_s
        if small is not best and found.score > small.score:
            self.attempt(dict(found.settings) | {"factors": best.settings["factors"]}, like=best)

    def _quick(self, best: Trial) -> Trial:
        """Return the trial of the best settings with tables that are quick; the best one itself where there is none."""
        fewer = [
            trial
            for trial in self.trials
            if dict(trial.settings) | {"factors": 0} == dict(best.settings) | {"factors": 0}
            and trial.settings.get("factors", 0) <= REFINED_FACTORS
        ]
        return max(fewer, key=lambda trial: trial.settings.get("factors", 0), default=best)

    def _model_based(self, around: Trial) -> Trial:
        """Return the best of what the estimator suggests around a trial, and of that trial."""
        space = self._around(around)
        if not space or not self.time_for(around):
            return around
        estimator, defaults = Estimator(space, seed=self.seed), self.config_class().model_dump()
        for known in self.trials:
            if known.settings.get("factors") == around.settings.get("factors"):
                estimator.teach(defaults | dict(known.settings), known.score)
        found = around
        for _ in range(TPE_TRIALS):
            asked = estimator.ask()
            trial = self.attempt(dict(around.settings) | asked.params, like=around)
            if trial is None and not self.time_for(around):
                break
            estimator.tell(asked, around.score * HOPELESS if trial is None else trial.score)
            found = found if trial is None or trial.score <= found.score else trial
        return found

    def _around(self, best: Trial) -> dict[str, Any]:
        """Return the part of the space near the best settings that is left to the estimator, as Optuna has it."""
        apart = {"factors", "epochs", *half_lives(self.config_class, self.task.train)}
        if not self._weights_matter():
            apart.add("mass_exponent")
        whole = {name: tried.distribution() for name, tried in self.space.items() if name not in apart}
        settings = self.config_class().model_dump() | dict(best.settings)
        return {name: near(tried, settings.get(name)) for name, tried in whole.items()}

    def _grow(self) -> None:
        """Double the tables while that makes lists better and time allows."""
        if "factors" not in self.config_class.model_fields:
            return
        misses = 0
        while self.best is not None and misses < 2:
            best = self.best
            largest = max(self.trials, key=lambda trial: (trial.settings["factors"], trial.score))
            grown = largest.settings["factors"] * 2
            if grown > self._most_factors() or not self.time_for(largest, times=DOUBLED):
                return
            found = self.attempt(dict(best.settings) | {"factors": grown}, like=largest)
            if found is None:
                return
            misses = 0 if found.score > best.score else misses + 1

    def _most_factors(self) -> int:
        tried = self.space.get("factors")
        known = int(max(tried.ends())) if tried is not None else FIRST_FACTORS
        return min(known, self.most_factors or known)


@dataclass
class _Watch:
    """Measures the model after each epoch, and ends training when it gets no better."""

    search: Search
    bar: float
    """The best score of earlier trials."""
    started_s: float
    """The clock's reading when the trial began."""
    scores: list[float] = field(default_factory=list)
    ranks_s: list[float] = field(default_factory=list)
    """Seconds that each of them took."""
    in_epochs: bool = False

    def __call__(self, epoch: Epoch) -> bool:
        self.in_epochs = True
        clock = self.search.budget.clock
        started = clock()
        self.scores.append(self.search.score(epoch.model()))
        self.ranks_s.append(clock() - started)
        best = int(np.argmax(self.scores))
        stale = len(self.scores) - 1 - best >= PATIENCE
        hopeless = len(self.scores) > PATIENCE and self.scores[best] < HOPELESS * self.bar
        return stale or hopeless or self._late() or not math.isfinite(epoch.loss)

    def _late(self) -> bool:
        """Return whether there is just time left to train and rank with what there is now."""
        search = self.search
        fit_s = search.budget.clock() - self.started_s - sum(self.ranks_s)
        final_s = fit_s * search.train_ratio + self.ranks_s[-1] * search.people_ratio
        return search.budget.spent_s + SLACK * final_s > search.end_s


def mean_ndcg(model: Model, task: Task, user_rows: AnyArray) -> float:
    """Return the mean NDCG of the longest list over these people of a task."""
    k = max(task.ks)
    best_SK = rank(model, user_rows, task.rules, k=k)
    return float(ranking_values(best_SK, user_rows, task)[f"ndcg@{k}"].mean())


def _said(trial: Trial) -> str:
    settings = ", ".join(f"{name} {shown_number(value)}" for name, value in trial.settings.items())
    epochs = "" if trial.epochs is None else f", {trial.epochs} epochs"
    return f"{trial.score:.4f} with {settings}{epochs} ({trial.seconds:.1f} s)"


def shown_number(value: Any) -> str:
    """Return a setting's value in a few digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
