"""The settings of each kind of model: from a file, from a search on a part of train, or the first guess."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from bespoke.events import ItemId
from bespoke.models.als import Als
from bespoke.models.arrays import AnyArray
from bespoke.models.base import Epoch, Model, ModelConfig
from bespoke.models.blend import Blend, BlendConfig
from bespoke.models.blend_learning import Learned
from bespoke.models.buy_again import BuyAgain
from bespoke.models.history import History
from bespoke.models.popularity import Popularity
from bespoke.models.registry import model_of_kind
from training.offline.budget import Budget
from training.offline.lines import Lines
from training.offline.measure import Task
from training.offline.search import SLACK, Say, Search, Trial, mean_ndcg, shown_number
from training.offline.starts import HALF_LIFE, Settings, half_lives, starts, typical_weight

BLEND_FACTORS = 128
"""Beyond this, factors help a blend less than they cost."""
BLEND_CASES = 2000
PERSONAL, RECENT = "personal_half_life_days", "recent_half_life_days"
POPULARITY = "popularity_half_life_days"
ALS_SHARE = 0.7
"""Of a blend's time, what goes to the settings of its als."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What to train with."""

    kind: str
    config: ModelConfig
    how: str
    """Where the settings come from: file, search or first guess."""
    trials: tuple[Trial, ...] = ()
    score: float | None = None
    """On the held-out part of train."""
    learned: Learned | None = None
    """What a blend learned on that part."""


@dataclass
class Chooser:
    """Chooses settings on a part of train."""

    validation: Task | None
    """None where too little is there to hold a part out."""
    train_ratio: float
    """All of train over what a trial learns from."""
    people_ratio: float
    """People to rank for in the end over those of a trial."""
    budget: Budget
    seed: int
    say: Say
    train: Lines
    """All of train."""
    repeats: bool
    spaces: Mapping[str, Mapping[str, Any]]
    ranking_s: float = 0.0
    """The longest time that ranking for everybody has taken."""
    _searches: dict[str, Search] = field(default_factory=dict)

    def choose(self, kind: str, *, end_s: float) -> Chosen:
        """Search so that training and ranking can end ``end_s`` seconds after the budget's beginning."""
        if kind == Blend.kind:
            return self._blend(None, end_s=end_s)
        search = self._search(kind, end_s=end_s)
        best = None if search is None else search.chosen()
        if search is None or best is None:
            return Chosen(kind, self.first_guess(kind), "first guess")
        return Chosen(kind, best.config(kind), "search", tuple(search.trials), best.score)

    def of_file(self, kind: str, config: ModelConfig) -> Chosen:
        """Return settings that are given; a blend still learns its weights."""
        if isinstance(config, BlendConfig):
            return self._blend(config, end_s=self.budget.limit_s)
        return Chosen(kind, config, "file")

    def first_guess(self, kind: str) -> ModelConfig:
        """Return what a search would try first."""
        config_class = model_of_kind(kind).Config
        weight = typical_weight(self.train, config_class())
        # Where people repeat themselves, what they did lately says more; the middle of what a search would try.
        base: Settings = {
            name: days[len(days) // 2 if self.repeats else 0]
            for name, days in half_lives(config_class, self.train).items()
        }
        return config_class.model_validate(base | starts(_like(kind), repeats=self.repeats, weight=weight)[0])

    def _search(self, kind: str, *, end_s: float, most_factors: int | None = None) -> Search | None:
        if kind in self._searches:
            return self._searches[kind]
        if self.validation is None:
            return None
        search = Search(
            kind,
            self.validation,
            self.budget,
            end_s,
            self.seed,
            self.say,
            self.spaces.get(kind, {}),
            train_ratio=self.train_ratio,
            people_ratio=self.people_ratio,
            most_factors=most_factors,
            fixed=self._known(kind),
            ranking_s=self.ranking_s,
        )
        search.run()
        self._searches[kind] = search
        return search

    def _known(self, kind: str) -> Settings:
        """Return what other searches found out for this kind: how fast popularity ages."""
        search = self._searches.get(Popularity.kind)
        found = None if search is None else search.best
        name = HALF_LIFE if kind == BuyAgain.kind else POPULARITY
        if found is None or kind == Popularity.kind or name not in model_of_kind(kind).Config.model_fields:
            return {}
        return {name: found.settings[HALF_LIFE]}

    def _blend(self, given: BlendConfig | None, *, end_s: float) -> Chosen:
        """Take the settings of als where none are given, and learn the weights of the sources on the held-out part."""
        trials: tuple[Trial, ...] = ()
        config, how = given, "file"
        if config is None:
            share_s = max(0.0, end_s - self.budget.spent_s) * ALS_SHARE
            als = self._search(Als.kind, end_s=self.budget.spent_s + share_s, most_factors=BLEND_FACTORS)
            trials = () if als is None else tuple(one for one in als.trials if one.settings["factors"] <= BLEND_FACTORS)
            config, how = self._blend_config(trials), "search" if trials else "first guess"
        if self.validation is None or self.budget.spent_s > end_s:
            return Chosen(Blend.kind, config, how, trials)
        tried = [config] if given is not None else self._personal_half_lives(config)
        found = self._learned(self.validation, tried, end_s=end_s)
        return replace(found, how=how, trials=trials)

    def _blend_config(self, trials: tuple[Trial, ...]) -> BlendConfig:
        guess = self.first_guess(Blend.kind).model_dump()
        days = half_lives(BlendConfig, self.train)[RECENT]
        best = max(trials, key=lambda trial: trial.score, default=None)
        settings = {} if best is None else best.config(Als.kind).model_dump()
        config = BlendConfig.model_validate(guess | settings | {RECENT: days[-1]})
        return config.model_copy(update={"factors": min(config.factors, BLEND_FACTORS)})

    def _personal_half_lives(self, config: BlendConfig) -> list[BlendConfig]:
        return [config.model_copy(update={PERSONAL: days}) for days in half_lives(BlendConfig, self.train)[PERSONAL]]

    def _learned(self, task: Task, tried: list[BlendConfig], *, end_s: float) -> Chosen:
        """Return the best of these settings with what it learns from all cases of the held-out part."""
        interactions = task.train.interactions(tried[0].interaction_weights)
        base = Blend.fit(interactions, config=tried[0], at_ms=task.train.cut_ms, seed=self.seed)
        cases = Cases(task, seed=self.seed)
        best, best_model = -1.0, base
        for config in tried:
            started = self.budget.spent_s
            model = Blend.from_arrays(base.arrays(), vocabulary=base.vocabulary, users=base.users, config=config)
            score = cases.score(model)
            self.say(f"blend: {score:.4f} with {PERSONAL} {shown_number(config.personal_half_life_days)}")
            if score > best:
                best, best_model = score, model
            took_s = self.budget.spent_s - started
            # Another one takes as long, and so does learning and ranking for everybody in the end.
            if self.budget.spent_s + took_s * (1 + SLACK * max(1.0, self.people_ratio)) > end_s:
                break
        return Chosen(
            Blend.kind, best_model.config, "", score=best, learned=cases.taught(best_model, cases.users).learned
        )


@dataclass
class Cases:
    """People of the held-out part of train that a blend learns from and is scored on, never the same ones."""

    task: Task
    seed: int

    @cached_property
    def users(self) -> AnyArray:
        """Rows of the people that take part."""
        rows = self.task.user_rows
        if len(rows) <= BLEND_CASES:
            return rows
        return np.sort(np.random.default_rng(self.seed).choice(rows, BLEND_CASES, replace=False))

    def taught(self, model: Blend, user_rows: AnyArray) -> Blend:
        """Return the model with what it learns from these people."""
        ids, task = self.task.train.ids, self.task
        histories = task.train.histories(user_rows, model.config.interaction_weights, at_ms=task.train.cut_ms)
        first_S = np.searchsorted(task.relevant, user_rows * len(ids.items))
        end_S = np.searchsorted(task.relevant, (user_rows + 1) * len(ids.items))
        cases: list[tuple[History, Set[ItemId]]] = [
            (history, {ids.items[pair % len(ids.items)] for pair in task.relevant[first:end]})
            for history, first, end in zip(histories, first_S, end_S, strict=True)
        ]
        return model.with_learned_weights(cases, k=max(task.ks)) if cases else model

    def score(self, model: Blend) -> float:
        """Return the mean NDCG of the longest list; each half is ranked by what was learned from the other."""
        halves = np.random.default_rng(self.seed).integers(0, 2, len(self.users))
        total = 0.0
        for half in (0, 1):
            ranked, others = self.users[halves == half], self.users[halves != half]
            if len(ranked):
                total += mean_ndcg(self.taught(model, others), self.task, ranked) * len(ranked)
        return total / max(1, len(self.users))


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model that was trained on everything."""

    model: Model
    cut_short: bool
    """Whether it had fewer epochs than its settings say, since time ran out."""


def fitted(chosen: Chosen, task: Task, *, budget: Budget, end_s: float, seed: int) -> Fitted:
    """Return the model, trained on all of the task's train part; families with epochs end early where time runs out."""
    ended: list[int] = []

    def late(epoch: Epoch) -> bool:
        if budget.spent_s > end_s:
            ended.append(epoch.number)
        return bool(ended)

    model: Model = model_of_kind(chosen.kind).fit(
        task.train.interactions(chosen.config.interaction_weights),
        config=chosen.config,
        at_ms=task.train.cut_ms,
        seed=seed,
        catalog=task.catalog,
        on_epoch=late,
    )
    if isinstance(model, Blend) and chosen.learned is not None:
        model = model.with_learned(chosen.learned)
    return Fitted(model, bool(ended) and ended[0] < getattr(chosen.config, "epochs", 0))


def _like(kind: str) -> str:
    return Als.kind if kind == Blend.kind else kind
