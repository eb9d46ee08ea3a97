"""Items and people that little is known of, on The Complete Journey: content and two_tower against als with popularity.

Twelve weekly cuts over the last months; at each, models learn from the 90 days before it, and rank what households
bought in the 7 days after it. NDCG@20, paired per household and cut, intervals clustered by household.

- Items: those whose first sale of the 90 days lies in the last 14. They are ranked among each other; relevant are those
  that the household bought. Households that bought none of them are left out.
- Users: households with fewer than 5 orders in the 90 days, those without any included. All items are ranked; relevant
  is everything that they bought.

The rival is als, and popularity where it does not know the person. Every model sees a household's lines of the 90 days
and no others. The catalog at a cut holds the items sold before it: department, category, type, brand, size and maker.
Settings are chosen on three cuts before those reported, for each question by itself, by the same number of trials for
content as for als; two_tower runs with its defaults.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.harness import Figures, main
from bespoke.catalog import Catalog, Item
from bespoke.clock import DAY_MS
from bespoke.errors import ConfigError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Model, ModelConfig
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.metrics import ndcg
from bespoke.models.registry import MODELS
from bespoke.statistics.paired import Interval, clustered_difference
from runtime.demo.journey import data_folder
from training.dataset import histories, to_interactions, within
from training.search_space import Choices, Range, Space, load_space, suggested, with_values

RIVAL, KINDS = "als", ("content", "two_tower")
CUTS, WINDOW_DAYS, NEW_DAYS, TEST_DAYS, LIGHT_ORDERS = 12, 90, 14, 7, 5
CHOSEN_ON_WEEKS = (19, 16, 13)
"""The cuts that settings are chosen on, in weeks before the end; the first reported one is 12 weeks before it."""
K, TRIALS = 20, 4
SPACES: Mapping[str, Callable[[], Space]] = {
    "als": lambda: {
        "factors": Choices(choices=(32, 64, 128)),
        "alpha0": Range(low=0.03, high=3.0, log=True),
        "regularisation": Range(low=0.01, high=1.0, log=True),
        "mass_exponent": Choices(choices=(0.0, 0.5, 1.0)),
        "half_life_days": Choices(choices=(0.0, 30.0)),
        "popularity_half_life_days": Choices(choices=(7.0, 14.0, 30.0)),
    },
    "content": lambda: load_space("content", Path("config/models/content-search.toml")),
}
QUESTIONS = ("items", "users")
Configs = Mapping[str, ModelConfig]
"""Settings of one kind, by question."""


@dataclass(frozen=True, slots=True)
class Journey:
    """All lines, and what is known of products."""

    lines: pa.Table
    first_sold_ms: Mapping[str, int]
    products: Sequence[Item]
    end_ms: int


@dataclass(frozen=True, slots=True)
class Case:
    """A household at a cut, and what it took in the days after."""

    question: str
    history: History
    candidates: Sequence[ItemId] | None
    """What is ranked; None for everything."""
    relevant: frozenset[ItemId]


@dataclass(frozen=True, slots=True)
class Cut:
    """What was known at one time, and what came then."""

    at_ms: int
    window: pa.Table
    catalog: Catalog
    cases: Sequence[Case]


def run() -> Figures:
    """Choose settings, then train and rank at every cut."""
    journey = read_journey()
    kinds = [kind for kind in KINDS if kind in MODELS]
    for kind in sorted(set(KINDS) - set(kinds)):
        print(f"cold: {kind} skipped, there is no such model", flush=True)
    earlier = [cut_at(journey, weeks=weeks) for weeks in CHOSEN_ON_WEEKS]
    configs = {kind: chosen(kind, earlier) if kind in SPACES else defaults_of(kind) for kind in (RIVAL, *kinds)}
    gains: dict[str, dict[str, list[float]]] = {kind: {question: [] for question in QUESTIONS} for kind in configs}
    clusters: dict[str, list[str]] = {question: [] for question in QUESTIONS}
    for weeks in range(CUTS, 0, -1):
        cut = cut_at(journey, weeks=weeks)
        for question in QUESTIONS:
            clusters[question] += [str(case.history.user_id) for case in cut.cases if case.question == question]
        for kind in configs:
            for question, values in ranked(kind, configs[kind], cut).items():
                gains[kind][question] += values
    return figures(gains, clusters)


def defaults_of(kind: str) -> Configs:
    """Return the kind's defaults for each question."""
    return dict.fromkeys(QUESTIONS, MODELS[kind].Config())


def figures(gains: Mapping[str, Mapping[str, Any]], clusters: Mapping[str, Sequence[str]]) -> Figures:
    """Return the intervals of the differences to the rival, the means, and how many cases there were."""
    found: dict[str, float] = {}
    for question in QUESTIONS:
        for kind in gains:
            found[f"{question}_{kind}_ndcg20"] = float(np.mean(gains[kind][question]))
            if kind != RIVAL:
                interval: Interval = clustered_difference(
                    gains[kind][question], gains[RIVAL][question], clusters[question]
                )
                found |= {f"{question}_{kind}_low": interval.low, f"{question}_{kind}_high": interval.high}
        found[f"{question}_n"] = len(clusters[question])
    return found


def chosen(kind: str, cuts: Sequence[Cut]) -> Configs:
    """Return for each question the settings with the best mean NDCG; the search goes after the mean of both."""
    space, defaults = SPACES[kind](), MODELS[kind].Config()

    def quality(trial: optuna.Trial) -> float:
        configs = dict.fromkeys(QUESTIONS, with_values(defaults, suggested(space, trial)))
        each = [ranked(kind, configs, cut) for cut in cuts]
        for question in QUESTIONS:
            trial.set_user_attr(question, float(np.mean([gain for gains in each for gain in gains[question]])))
        return float(np.mean(list(trial.user_attrs.values())))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({name: getattr(defaults, name) for name in space})
    study.optimize(quality, n_trials=TRIALS)
    best = {question: max(study.trials, key=partial(_quality, question)) for question in QUESTIONS}
    for question, trial in best.items():
        print(f"{kind}, {question}: {trial.user_attrs[question]:.4f} with {trial.params}", flush=True)
    return {question: with_values(defaults, trial.params) for question, trial in best.items()}


def _quality(question: str, trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.user_attrs[question])


def ranked(kind: str, configs: Configs, cut: Cut) -> Mapping[str, list[float]]:
    """Train at the cut, once for equal settings; return the NDCG of each question's cases."""
    models = {config: trained(kind, config, cut) for config in set(configs.values())}
    return {
        question: [gain_of(models[config], case) for case in cut.cases if case.question == question]
        for question, config in configs.items()
    }


def trained(kind: str, config: ModelConfig, cut: Cut) -> Model:
    """Train on the window, with what is known of items."""
    interactions = to_interactions(cut.window, weights=config.interaction_weights)
    return MODELS[kind].fit(interactions, config=config, at_ms=cut.at_ms, catalog=cut.catalog)


def gain_of(model: Model, case: Case) -> float:
    """Return the NDCG of one case; candidates that the model does not know come nowhere."""
    scores_I = model.scores(case.history)
    if case.candidates is None:
        rows = top_k(scores_I, k=K)
    else:
        row_C = model.vocabulary.rows(case.candidates)
        row_C = row_C[row_C >= 0]
        rows = row_C[top_k(scores_I[row_C], k=K)]
    return ndcg([model.vocabulary.ids[row] for row in rows], case.relevant, k=K)


def cut_at(journey: Journey, *, weeks: int) -> Cut:
    """Return what is known so many weeks before the end, and the cases of the days after."""
    at_ms = journey.end_ms - weeks * 7 * DAY_MS
    window = within(journey.lines, since_ms=at_ms - WINDOW_DAYS * DAY_MS, until_ms=at_ms)
    after = within(journey.lines, since_ms=at_ms, until_ms=at_ms + TEST_DAYS * DAY_MS)
    known = histories(window, at_ms=at_ms)
    orders = {user: len({line.at_ms for line in history.recent}) for user, history in known.items()}
    new = first_sold(window, since_ms=at_ms - NEW_DAYS * DAY_MS)
    taken: dict[UserId, set[ItemId]] = {}
    for user, item in zip(after["user_id"].to_pylist(), after["item_id"].to_pylist(), strict=True):
        taken.setdefault(user, set()).add(item)
    cases = []
    for user, items in sorted(taken.items()):
        history = known.get(user, History(user, (), at_ms))
        if new & items:
            cases.append(Case("items", history, sorted(new), frozenset(new & items)))
        if orders.get(user, 0) < LIGHT_ORDERS:
            cases.append(Case("users", history, None, frozenset(items)))
    catalog = {one.item_id: one for one in journey.products if journey.first_sold_ms.get(one.item_id, at_ms) < at_ms}
    return Cut(at_ms, window, catalog, cases)


def first_sold(window: pa.Table, *, since_ms: int) -> frozenset[ItemId]:
    """Return the items whose first line of the window is not from before ``since_ms``."""
    firsts = window.group_by("item_id").aggregate([("at_ms", "min")])
    return frozenset(firsts.filter(pc.greater_equal(firsts["at_ms_min"], since_ms))["item_id"].to_pylist())


@cache
def read_journey() -> Journey:
    """Return the data; times are as the publisher gives them, taken for UTC."""
    columns = ["household_id", "product_id", "quantity", "transaction_timestamp"]
    table = pq.read_table(data_folder() / "transactions.parquet", columns=columns)
    lines = pa.table(
        {
            "user_id": table["household_id"].cast(pa.string()),
            "item_id": table["product_id"].cast(pa.string()),
            "interaction": pa.repeat("purchase", table.num_rows),
            "quantity": table["quantity"].cast(pa.float64()),
            "at_ms": table["transaction_timestamp"].cast(pa.timestamp("ms")).cast(pa.int64()),
        }
    ).sort_by([("at_ms", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")])
    firsts = lines.group_by("item_id").aggregate([("at_ms", "min")])
    first_sold_ms = dict(zip(firsts["item_id"].to_pylist(), firsts["at_ms_min"].to_pylist(), strict=True))
    return Journey(lines, first_sold_ms, read_products(), int(pc.max(lines["at_ms"]).as_py()))


def read_products() -> list[Item]:
    """Return every product as a catalog would describe it."""
    rows = pq.read_table(data_folder() / "products.parquet").to_pylist()
    levels = ("department", "product_category", "product_type")
    return [
        Item(
            ItemId(str(row["product_id"])),
            name=row["product_type"],
            category=tuple(row[level] for level in levels if row[level]),
            brand=row["brand"],
            text=f"maker{row['manufacturer_id']} {'' if row['package_size'] is None else row['package_size']}",
        )
        for row in rows
    ]


if __name__ == "__main__":
    try:
        data_folder()
    except ConfigError as error:
        sys.exit(f"cold: skipped, {error}")
    main("cold", run, runs=1, about=(__doc__ or "").strip())
