"""`auto`: the kind of model that suits the lake's data and does best on the validation days."""

from typing import Any

import numpy as np
import pyarrow as pa

from bespoke.clock import to_ms
from bespoke.errors import TrainingError
from bespoke.models.registry import MODELS
from storage.lake import Lake
from storage.settings import Settings
from training.auto import Choice, Facts, choose_kind, described, facts_of, suitable_kinds
from training.catalog import known_catalog
from training.configs import load_config
from training.dataset import Basket, baskets, histories, read_interactions, require_recent, within
from training.evaluate import MAX_BASKETS, Say, measure, sampled
from training.fit import FitRequest, fit_remotely
from training.gate import METRIC
from training.windows import Windows

AUTO = "auto"
LENGTH = 20


def best_kind(windows: Windows, settings: Settings, *, seed: int, say: Say) -> Choice:
    """Measure the kinds that suit the data on the days before the test days; return the best one.

    Raises:
        TrainingError: there is nothing to learn from, or nothing to measure on.
    """
    lake, cut_ms = Lake(settings.lake_dir), to_ms(windows.validate_from)
    require_recent(lake, since_ms=cut_ms)
    say("reading the lake")
    table = read_interactions(
        lake, since_ms=None, until_ms=to_ms(windows.test_from), cache=settings.cache_dir / "lines"
    )
    taken = sampled(baskets(within(table, since_ms=cut_ms, until_ms=None)), at_most=MAX_BASKETS)
    learned = within(table, since_ms=cut_ms - windows.length_ms, until_ms=cut_ms)
    if not taken or not learned.num_rows:
        raise TrainingError(
            f"there are no two weeks of baskets before {windows.test_from:%Y-%m-%d} to choose on; name a kind of model"
        )
    catalog, known = known_catalog(settings, table, at_ms=cut_ms), histories(table, at_ms=cut_ms)
    facts = _facts(learned, taken, described_items=described(catalog, set(learned["item_id"].to_pylist())))

    def score(kind: str) -> float | None:
        config = load_config(kind, settings.config_dir / "models" / f"{kind}.toml")
        request = FitRequest(kind, config, cut_ms, windows.length_ms, seed, catalog)
        shown = measure(fit_remotely(table, request).model, taken, known, at_ms=cut_ms, lengths=(LENGTH,))
        say(f"{kind}: {METRIC} {shown.means[METRIC]:.4f}, tried since {reasons[kind]}")
        return shown.means[METRIC]

    reasons = suitable_kinds(facts, MODELS)
    choice = choose_kind(reasons, score)
    say(f"{choice.kind} does best on the week before {windows.test_from:%Y-%m-%d}")
    return choice


def _facts(learned: pa.Table, taken: list[Basket], *, described_items: int) -> Facts:
    before: dict[Any, set[Any]] = {}
    for user, item in zip(learned["user_id"].to_pylist(), learned["item_id"].to_pylist(), strict=True):
        before.setdefault(user, set()).add(item)
    later = [(basket.user_id, item) for basket in taken for item in basket.items if basket.user_id in before]
    repeated = sum(item in before[user] for user, item in later)
    return facts_of(
        _codes(learned["user_id"]),
        _codes(learned["item_id"]),
        repeat_share=repeated / len(later) if later else 0.0,
        timed=len(set(learned["at_ms"].to_pylist())) > 1,
        described=described_items,
    )


def _codes(ids: pa.ChunkedArray) -> Any:
    return np.asarray(ids.combine_chunks().dictionary_encode().indices)
