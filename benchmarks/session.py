"""How well models that learned from earlier visits name the next item of a session, on 97,381 events of a real shop.

The last three weeks are the test; settings are chosen on the two weeks before them by models of what came earlier, by
the same number of trials for each model; the models measured are then trained on everything before the test. A session
ends after 30 minutes without an event. Every next item of every test session is a case: the models see the session so
far and nothing of the person, and rank all items that they know. An item that nobody had visited before the test counts
as missed. Further events about the item that was visited last (viewed, then put into the cart) are no case; a return to
an item that was visited earlier in the session is one, and nothing is masked. `_new` are figures without such returns.
The interval is over sessions, of the difference to the better one of popularity and als.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS, MINUTE_MS
from bespoke.events import ItemId
from bespoke.models.base import Interactions, Model
from bespoke.models.history import History, InteractionWeights
from bespoke.models.registry import MODELS
from bespoke.profiles import Recent
from bespoke.statistics.paired import clustered_difference
from training.search_space import Choices, Range, Space, load_space, suggested, with_values

EVENTS = Path("../shared/data/retailrocket/events.parquet")
TEST_DAYS, VALIDATION_DAYS, GAP_MINUTES = 21, 14, 30
K, TRIALS, VALIDATION_CASES, BATCH = 20, 30, 2000, 256
SPACES: Mapping[str, Callable[[], Space]] = {
    "popularity": lambda: {"half_life_days": Range(low=1.0, high=365.0, log=True)},
    "als": lambda: {
        "factors": Choices(choices=(64, 128, 256, 512)),
        "alpha0": Range(low=0.001, high=1.0, log=True),
        "regularisation": Range(low=0.001, high=0.3, log=True),
        "mass_exponent": Choices(choices=(0.0, 0.25, 1.0)),
        "half_life_days": Choices(choices=(0.0, 30.0)),
        "epochs": Range(low=2, high=8),
    },
    "covisitation": lambda: load_space("covisitation", Path("config/models/covisitation-search.toml")),
}


@dataclass(frozen=True, slots=True)
class Lines:
    """N events, one session after the other, each in the order of time."""

    session_N: Any
    user_N: Any
    item_N: Any
    interaction_N: Any
    at_ms_N: Any

    def where(self, kept_N: Any) -> "Lines":
        """Return some of the lines."""
        return Lines(*(getattr(self, name)[kept_N] for name in self.__slots__))

    def interactions(self, *, by: str) -> Interactions:
        """Return them to learn from; ``by`` names what stands for a user: the person or the session."""
        weight_N = InteractionWeights().of(self.interaction_N)
        users = pa.array(self.user_N if by == "person" else self.session_N).cast(pa.string())
        return Interactions.from_columns(users, self.item_N, self.at_ms_N, weight_N)


@dataclass(frozen=True, slots=True)
class Case:
    """A session so far and the item that came next."""

    session: int
    history: History
    target: ItemId
    returns: bool
    """Whether the item was visited before in this session."""


@dataclass(frozen=True, slots=True)
class Split:
    """Lines before a cut, and the cases of the time after it."""

    at_ms: int
    train: Lines
    cases: Sequence[Case]


def run() -> Figures:
    """Choose settings, train and rank."""
    lines = read_lines()
    test_ms = int(lines.at_ms_N.max()) - TEST_DAYS * DAY_MS
    earlier = split(lines, at_ms=test_ms - VALIDATION_DAYS * DAY_MS, until_ms=test_ms)
    test = split(lines, at_ms=test_ms, until_ms=int(lines.at_ms_N.max()) + 1)
    sample = np.random.default_rng(0).permutation(len(earlier.cases))[:VALIDATION_CASES]
    validation = Split(earlier.at_ms, earlier.train, [earlier.cases[n] for n in sorted(sample)])
    hits = {kind: hits_of(chosen(kind, validation), test) for kind in SPACES}
    return figures(hits, test.cases)


def figures(hits: Mapping[str, Any], cases: Sequence[Case]) -> Figures:
    """Return recall of each model, and what covisitation gains over the better one of the others."""
    new = np.array([not case.returns for case in cases])
    recalls = {kind: float(hit.mean()) for kind, hit in hits.items()}
    recalls_new = {kind: float(hit[new].mean()) for kind, hit in hits.items()}
    best, best_new = (
        max((one for one in of if one != "covisitation"), key=of.__getitem__) for of in (recalls, recalls_new)
    )
    sessions = [case.session for case in cases]
    interval = clustered_difference(hits["covisitation"], hits[best], sessions)
    return {
        "gain_over_best": recalls["covisitation"] / recalls[best] - 1,
        "gain_over_best_new": recalls_new["covisitation"] / recalls_new[best_new] - 1,
        **{f"recall20_{kind}": value for kind, value in recalls.items()},
        **{f"recall20_{kind}_new": value for kind, value in recalls_new.items()},
        "difference_low": interval.low,
        "difference_high": interval.high,
        "cases": len(cases),
        "sessions": interval.clusters,
    }


def read_lines() -> Lines:
    """Return all events, in sessions."""
    table = pq.read_table(EVENTS).sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
    user_N = table["user_id"].to_numpy()
    at_ms_N = table["timestamp"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy()
    starts_N = (np.diff(user_N, prepend=-1) != 0) | (np.diff(at_ms_N, prepend=0) > GAP_MINUTES * MINUTE_MS)
    item_N = np.array(table["item_id"].cast(pa.string()).to_pylist(), dtype=object)
    return Lines(np.cumsum(starts_N), user_N, item_N, np.array(table["event_type"].to_pylist(), dtype=object), at_ms_N)


def split(lines: Lines, *, at_ms: int, until_ms: int) -> Split:
    """Return what was before ``at_ms``, and the cases of the sessions that began from then on, up to ``until_ms``."""
    _, first_S = np.unique(lines.session_N, return_index=True)
    began_N = lines.at_ms_N[first_S][lines.session_N - lines.session_N[0]]
    after = lines.where((began_N >= at_ms) & (lines.at_ms_N < until_ms))
    cuts = np.flatnonzero(np.diff(after.session_N)) + 1
    sessions = [after.where(rows) for rows in np.split(np.arange(len(after.session_N)), cuts)]
    return Split(at_ms, lines.where(lines.at_ms_N < at_ms), [case for one in sessions for case in cases_of(one)])


def cases_of(session: Lines) -> list[Case]:
    """Return a case for every next item of one session."""
    recent = tuple(
        map(Recent, session.at_ms_N.tolist(), session.item_N, session.interaction_N, np.ones(len(session.item_N)))
    )
    return [
        Case(
            int(session.session_N[0]),
            History(None, recent[:n], recent[n - 1].at_ms),
            recent[n].item_id,
            any(line.item_id == recent[n].item_id for line in recent[:n]),
        )
        for n in range(1, len(recent))
        if recent[n].item_id != recent[n - 1].item_id
    ]


def chosen(kind: str, validation: Split) -> Callable[[Split], Model]:
    """Return how to train the kind with the settings that do best in validation."""
    space = SPACES[kind]()
    defaults = MODELS[kind].Config()

    def fit(values: Mapping[str, Any], by: str, split: Split) -> Model:
        config = with_values(defaults, values)
        return MODELS[kind].fit(split.train.interactions(by=by), config=config, at_ms=split.at_ms)

    def recall(trial: optuna.Trial) -> float:
        # als may take each session for a person of its own; covisitation knows what a session is.
        by = trial.suggest_categorical("by", ["person", "session"]) if kind == "als" else "person"
        return float(hits_of(partial(fit, suggested(space, trial), by), validation).mean())

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(recall, n_trials=TRIALS)
    print(f"{kind}: {study.best_value:.4f} in validation with {study.best_params}", flush=True)
    values = dict(study.best_params)
    return partial(fit, values, values.pop("by", "person"))


def hits_of(fit: Callable[[Split], Model], split: Split) -> Any:
    """Return for each case whether the target is among the first ``K``; of equal scores the smaller row comes first."""
    model = fit(split)
    hits = np.zeros(len(split.cases))
    targets = model.vocabulary.rows([case.target for case in split.cases])
    for start in range(0, len(hits), BATCH):
        rows = targets[start : start + BATCH]
        scores_BI = model.scores_batch([case.history for case in split.cases[start : start + BATCH]])
        own_B = scores_BI[np.arange(len(rows)), rows][:, None]
        earlier_BI = (scores_BI == own_B) & (np.arange(scores_BI.shape[1]) < rows[:, None])
        ahead_B = ((scores_BI > own_B) | earlier_BI).sum(axis=1)
        hits[start : start + BATCH] = (rows >= 0) & (ahead_B < K)
    return hits


if __name__ == "__main__":
    if not EVENTS.exists():
        sys.exit(f"session: skipped, {EVENTS} is not there")
    main("session", run, runs=1, about=(__doc__ or "").strip())
