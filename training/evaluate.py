"""Evaluation: rank what people took after a cut with models that have seen nothing past it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zlib import crc32

import numpy as np
import pyarrow as pa

from bespoke.clock import to_ms
from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models import metrics
from bespoke.models.arrays import FloatArray
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import top_k
from storage.lake import Lake
from storage.settings import Settings
from training.configs import load_config
from training.dataset import Basket, baskets, histories, read_interactions, require_recent, within
from training.fit import FitRequest, fit_remotely

BATCH = 256
MAX_BASKETS = 20_000
"""More would take longer and hardly narrow an interval."""
Say = Callable[[str], None]
Metrics = dict[str, float]


def rank(model: Model, people: Iterable[History], *, k: int) -> dict[UserId | None, list[ItemId]]:
    """Return the model's ``k`` best items for each person, best first; what they took before may come again."""
    ranked: dict[UserId | None, list[ItemId]] = {}
    everybody, ids = list(people), model.vocabulary.ids
    for start in range(0, len(everybody), BATCH):
        batch = everybody[start : start + BATCH]
        for history, scores_I in zip(batch, model.scores_batch(batch), strict=True):
            ranked[history.user_id] = [ids[row] for row in top_k(scores_I, k=k)]
    return ranked


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model showed for baskets that it had not seen."""

    people: tuple[UserId, ...]
    """Whose basket each one is, [B]."""
    values: Mapping[str, FloatArray]
    """Each ranking metric of each basket, [B]."""
    means: Metrics
    """Of those, and what share of its items the model shows and how new the lists are."""
    ranked: Mapping[UserId | None, list[ItemId]]


def measure(
    model: Model, taken: Sequence[Basket], known: Mapping[UserId, History], *, at_ms: int, lengths: Sequence[int]
) -> Measured:
    """Rank the items for everybody who took something, and hold the lists against what they took.

    Args:
        model: trained on nothing past ``at_ms``.
        taken: baskets from after ``at_ms``.
        known: people's histories as of ``at_ms``; others count as new.
        at_ms: the cut.
        lengths: how long the lists are that metrics look at.
    """
    people = {one.user_id: known.get(one.user_id, History(one.user_id, (), at_ms)) for one in taken}
    ranked = rank(model, people.values(), k=max(lengths))
    each = [metrics.evaluate(ranked[one.user_id], one.items, ks=lengths) for one in taken]
    values = {name: np.array([value[name] for value in each], dtype=np.float32) for name in each[0]}
    means = {name: float(value.mean(dtype=np.float64)) for name, value in values.items()}
    items = len(model.vocabulary)
    popularity = Counter(line.item_id for history in known.values() for line in history.recent)
    for k in lengths:
        means[f"coverage@{k}"] = metrics.coverage(ranked.values(), items=items, k=k)
        means[f"novelty@{k}"] = metrics.novelty(ranked.values(), popularity=popularity, k=k)
    return Measured(tuple(one.user_id for one in taken), values, means, ranked)


def evaluate_kinds(
    kinds: Sequence[str],
    settings: Settings,
    *,
    until: datetime,
    window: timedelta,
    held_out: timedelta,
    lengths: Sequence[int],
    say: Say,
) -> dict[str, Metrics]:
    """Train each kind on the window before the held-out time, and rank the baskets of that time.

    Args:
        kinds: of model.
        settings: the installation, and where its model settings are.
        until: the end of the held-out time.
        window: how far before the held-out time training looks.
        held_out: how long it is.
        lengths: how long the lists are that metrics look at.
        say: told each step.

    Raises:
        TrainingError: nothing to learn from, or no baskets in the held-out time.
    """
    configs = {kind: load_config(kind, settings.config_dir / "models" / f"{kind}.toml") for kind in kinds}
    lake, at_ms = Lake(settings.lake_dir), to_ms(until - held_out)
    require_recent(lake, since_ms=at_ms)
    say("reading the lake")
    table = read_interactions(lake, since_ms=None, until_ms=to_ms(until))
    taken, known = held_out_baskets(table, at_ms=at_ms, until=until)
    measured = {}
    for kind, config in configs.items():
        say(f"{kind}: training up to {until - held_out:%Y-%m-%d}, ranking {len(taken):,} baskets")
        request = FitRequest(kind, config, at_ms, round(window.total_seconds() * 1000))
        model = fit_remotely(table, request).model
        measured[kind] = measure(model, taken, known, at_ms=at_ms, lengths=lengths).means
    return measured


def held_out_baskets(table: pa.Table, *, at_ms: int, until: datetime) -> tuple[list[Basket], dict[UserId, History]]:
    """Return the baskets of ``[at_ms, until)``, and what was known of everybody at ``at_ms``.

    Raises:
        TrainingError: there are no baskets in that time, or nothing before it.
    """
    taken = baskets(within(table, since_ms=at_ms, until_ms=to_ms(until)))
    known = histories(table, at_ms=at_ms)
    if not taken or not known:
        lacking = "no baskets to rank in" if not taken else "nothing to learn from before"
        raise TrainingError(f"there is {lacking} the held-out days before {until:%Y-%m-%d}; choose another --until")
    return sampled(taken, at_most=MAX_BASKETS), known


def sampled(taken: Sequence[Basket], *, at_most: int) -> list[Basket]:
    """Return the baskets of some people, the same ones every time: about ``at_most``, or all where there are fewer."""
    share = at_most / max(len(taken), 1)
    return [one for one in taken if share >= 1 or crc32(one.user_id.encode()) < share * 2**32]
