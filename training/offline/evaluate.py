"""Evaluation on files: read, split, choose settings on a part of train, train on all of it, rank, and measure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bespoke.errors import ConfigError, NotFound, TrainingError
from bespoke.models.arrays import AnyArray
from bespoke.models.base import ModelConfig
from bespoke.models.registry import MODELS
from storage.settings import Settings
from training.auto import Choice, choose_kind, described, facts_of, suitable_kinds
from training.configs import load_config
from training.offline import splits
from training.offline.budget import Budget, Clock
from training.offline.choose import Chooser, Chosen, fitted
from training.offline.files import World, read_world
from training.offline.lines import Lines
from training.offline.measure import Measured, Task, measured
from training.offline.ranking import Rules, rank

AUTO = "auto"
BASELINES = ("popularity", "buy_again")
MOST_VALIDATED = 5_000
LEAST_VALIDATED = 500
SCORES_PER_TRIAL = 60_000_000
"""Validation people times items, so that ranking them once takes less than a second."""
BASELINES_SHARE = 0.15
"""Of the time limit, what choosing the baselines' settings may take."""
MEASURED_TWICE = 2.0
"""Measuring lists is followed by intervals, which take about as long."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What to measure on which files."""

    kinds: tuple[str, ...]
    """Kinds of model, or ``auto``."""
    train: Path
    test: Path | None = None
    items: Path | None = None
    candidates: Path | None = None
    config: Path | None = None
    """Settings of the one kind; chosen on a part of train where None."""
    ks: tuple[int, ...] = (20,)
    repeats: bool | None = None
    """Whether what a person has in train may be recommended; the data decides where None."""
    leave_last: bool = False
    """Whether the last line of everybody in train is the test part."""
    split_ms: int | None = None
    """The moment, in ms since 1970, from which on lines of train are the test part."""
    time_limit_s: float = 600.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One model, trained and measured."""

    chosen: Chosen
    measured: Measured
    config: Mapping[str, Any]
    stages: Mapping[str, float]
    """Seconds of each."""
    cut_short: bool = False
    """Whether training ended before the number of epochs that the settings say."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found."""

    request: FileRequest
    world: World
    task: Task
    shape: splits.Shape
    validation: splits.Split | None
    validated: int
    repeat_share: float
    runs: Mapping[str, Run]
    auto: Choice | None
    budget: Budget

    @property
    def baseline(self) -> str:
        """The baseline with the better NDCG of the longest list."""
        key = f"ndcg@{max(self.task.ks)}"
        return max(BASELINES, key=lambda kind: self.runs[kind].measured.means[key])


def evaluate(request: FileRequest, *, say: Say, clock: Clock | None = None) -> Evaluation:
    """Measure each model of ``request`` and the baselines.

    Raises:
        ConfigError: the settings are wrong, or do not fit several kinds.
        NotFound: there is no such kind of model.
        TrainingError: the files are wrong, or there is nothing to learn from or to be measured on.
    """
    budget = Budget(request.time_limit_s) if clock is None else Budget(request.time_limit_s, clock)
    given = check(request)
    say("reading")
    with budget.stage("read"):
        world = read_world(request.train, test=request.test, items=request.items, candidates=request.candidates)
        split = _split(request, world)
        share = splits.repeat_share(split.train)
        repeats = request.repeats if request.repeats is not None else share >= splits.REPEATS_ALLOWED_FROM
        task = _task(split, world, request, repeats=repeats)
        inner = splits.validation(split.train, split.test, seed=request.seed)
        validation = None if inner is None else _validation_task(inner, task, request)
    say(_about(split, task, repeats=repeats, share=share))
    bench = _Bench(task, _chooser(validation, task, request, budget, say), budget, request.seed, say)
    auto, runs = _runs(request, bench, given, world, share)
    validated = 0 if validation is None else len(validation.user_rows)
    return Evaluation(request, world, task, split.shape, inner, validated, share, runs, auto, budget)


def check(request: FileRequest) -> dict[str, ModelConfig]:
    """Look for what is wrong with the request before any work; return the settings that are given, by kind.

    Raises:
        ConfigError: the settings are wrong, or do not fit several kinds.
        NotFound: there is no such kind of model.
    """
    for kind in request.kinds:
        if kind != AUTO and kind not in MODELS:
            raise NotFound(f"model kind {kind!r}, expected {AUTO} or one of {', '.join(MODELS)}")
    if request.config is None:
        return {}
    if len(request.kinds) != 1 or request.kinds[0] == AUTO:
        raise ConfigError(f"one file of settings is for one kind of model, got --model {', '.join(request.kinds)}")
    return {request.kinds[0]: load_config(request.kinds[0], request.config, required=True)}


@dataclass
class _Bench:
    """Trains and measures models on one task."""

    task: Task
    chooser: Chooser
    budget: Budget
    seed: int
    say: Say
    measured_s: float = 0.0
    """The longest time that measuring lists took."""

    def run(self, chosen: Chosen, *, before: Mapping[str, float] | None = None) -> Run:
        """Train on all of train, rank for everybody, measure."""
        clock, kind = self.budget.clock, chosen.kind
        self.say(f"{kind}: training on all of train, settings from {chosen.how}")
        started = clock()
        end_s = self.budget.limit_s - self.chooser.ranking_s - self.measured_s
        trained_on_all = fitted(chosen, self.task, budget=self.budget, end_s=end_s, seed=self.seed)
        model = trained_on_all.model
        if trained_on_all.cut_short:
            self.say(f"{kind}: training was cut short; allow more time with --time-limit")
        trained = clock()
        self.say(f"{kind}: ranking for {len(self.task.user_rows):,} people")
        best_SK = rank(model, self.task.user_rows, self.task.rules, k=max(self.task.ks))
        ranked = clock()
        found = measured(best_SK, self.task, items=len(model.vocabulary))
        stages = {"train": trained - started, "rank": ranked - trained, "measure": clock() - ranked}
        self.chooser.ranking_s = max(self.chooser.ranking_s, stages["rank"])
        self.measured_s = max(self.measured_s, stages["measure"])
        for stage, seconds in stages.items():
            self.budget.stages[stage] = self.budget.stages.get(stage, 0.0) + seconds
        return Run(
            chosen, found, model.config.model_dump(mode="json"), dict(before or {}) | stages, trained_on_all.cut_short
        )

    def choose(self, kind: str, *, end_s: float) -> tuple[Chosen, dict[str, float]]:
        """Choose settings until then; return them and the time that it took."""
        before = self.budget.clock()
        with self.budget.stage("search"):
            chosen = self.chooser.choose(kind, end_s=end_s)
        return chosen, {"search": self.budget.clock() - before}


def _runs(
    request: FileRequest, bench: _Bench, given: Mapping[str, ModelConfig], world: World, share: float
) -> tuple[Choice | None, dict[str, Run]]:
    budget, runs = bench.budget, {}
    for number, kind in enumerate(BASELINES, start=1):
        if kind not in given:
            end_s = budget.spent_s + BASELINES_SHARE * number / 2 * budget.left_s
            chosen, before = bench.choose(kind, end_s=end_s)
            runs[kind] = bench.run(chosen, before=before)
    for kind, config in given.items():
        runs[kind] = bench.run(bench.chooser.of_file(kind, config))
    auto = None
    wanted = [kind for kind in dict.fromkeys(request.kinds) if kind not in runs]
    for number, kind in enumerate(wanted):
        end_s = _end_s(bench, parts=len(wanted) - number)
        if kind == AUTO:
            auto, chosen = _auto(bench, runs, world, share, end_s=end_s)
            before = {}
        else:
            chosen, before = bench.choose(kind, end_s=end_s)
        if chosen.kind not in runs:
            runs[chosen.kind] = bench.run(chosen, before=before)
    return auto, runs


def _end_s(bench: _Bench, *, parts: int) -> float:
    """Return when ranking with what was chosen must end, so that all models get the same share of the time."""
    budget = bench.budget
    return budget.spent_s + max(0.0, budget.left_s / parts - MEASURED_TWICE * bench.measured_s)


def _auto(bench: _Bench, runs: Mapping[str, Run], world: World, share: float, *, end_s: float) -> tuple[Choice, Chosen]:
    """Measure the kinds that suit the data on the held-out part of train."""
    train = bench.task.train
    known = described(world.catalog, [world.ids.items[row] for row in np.unique(train.item_N)])
    facts = facts_of(train.user_N, train.item_N, repeat_share=share, timed=train.timed, described=known)
    reasons = suitable_kinds(facts, MODELS)
    found = {kind: runs[kind].chosen for kind in BASELINES if kind in runs}
    open_kinds = [kind for kind in reasons if kind not in found]

    def measure(kind: str) -> float | None:
        if kind not in found:
            left_s = max(0.0, end_s - bench.budget.spent_s)
            parts = len(open_kinds) - open_kinds.index(kind)
            found[kind], _ = bench.choose(kind, end_s=bench.budget.spent_s + left_s / parts)
        return found[kind].score

    if all(score is None for score in map(measure, reasons)):
        # Nothing could be held out, or there was no time: what suits by the rules alone.
        likely = "blend" if share >= splits.REPEATS_ALLOWED_FROM and "blend" in reasons else "als"
        return Choice(likely, {}, reasons), found[likely]
    choice = choose_kind(reasons, measure)
    bench.say(f"auto: {choice.kind} is best on the held-out part of train")
    return choice, found[choice.kind]


def _split(request: FileRequest, world: World) -> splits.Split:
    if request.split_ms is not None:
        return splits.after(world.train, request.split_ms)
    if request.leave_last:
        return splits.leave_last(world.train)
    assert world.test is not None
    return splits.Split(world.train, world.test, splits.shape_of(world.train, world.test))


def _task(split: splits.Split, world: World, request: FileRequest, *, repeats: bool) -> Task:
    relevant = splits.relevant_pairs(split.train, split.test, repeats=repeats)
    if not len(relevant):
        raise TrainingError(
            f"nothing is left to be measured on: all {len(split.test):,} test rows repeat what the same people have in "
            "train; use --repeats allow"
        )
    return Task(Rules(split.train, repeats, world.candidates), relevant, world.catalog, request.ks)


def _validation_task(inner: splits.Split, task: Task, request: FileRequest) -> Task | None:
    """Return the task of the held-out part of train, for a sample of its people."""
    relevant = splits.relevant_pairs(inner.train, inner.test, repeats=task.rules.repeats)
    whole = Task(Rules(inner.train, task.rules.repeats), relevant, task.catalog, (max(request.ks),))
    if not len(relevant):
        return None
    items = max(1, int((inner.train.lines_I > 0).sum()))
    most = int(np.clip(SCORES_PER_TRIAL // items, LEAST_VALIDATED, MOST_VALIDATED))
    if len(whole.user_rows) <= most:
        return whole
    chosen = np.sort(np.random.default_rng(request.seed).choice(whole.user_rows, most, replace=False))
    return replace(whole, relevant=relevant[_of_users(relevant, chosen, inner.train)])


def _of_users(pairs: AnyArray, user_rows: AnyArray, lines: Lines) -> AnyArray:
    """Return which pairs are about these users."""
    found: AnyArray = np.isin(pairs // max(1, len(lines.ids.items)), user_rows)
    return found


def _chooser(validation: Task | None, task: Task, request: FileRequest, budget: Budget, say: Say) -> Chooser:
    return Chooser(
        validation=validation,
        train_ratio=1.0 if validation is None else len(task.train) / len(validation.train),
        people_ratio=1.0 if validation is None else len(task.user_rows) / len(validation.user_rows),
        budget=budget,
        seed=request.seed,
        say=say,
        train=task.train,
        repeats=task.rules.repeats,
        spaces=_Spaces(),
    )


class _Spaces(dict[str, Mapping[str, Any]]):
    """The search space of each kind, read when it is asked for; empty where a kind has none."""

    def get(self, kind: str, default: Any = None) -> Any:
        """Return the space of a kind."""
        from training.search_space import load_space, space_path

        path = space_path(kind, Settings())
        return load_space(kind, path) if path.is_file() else {}


def _about(split: splits.Split, task: Task, *, repeats: bool, share: float) -> str:
    what = "may come again" if repeats else "are left out"
    return (
        f"{len(split.train):,} lines to learn from, {len(split.test):,} to be measured on ({split.shape}), "
        f"{len(task.user_rows):,} people; {share:.0%} of later lines are repeats, which {what}"
    )
