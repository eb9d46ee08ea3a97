"""The replay: a week of real baskets over HTTP at the data's own time, and the same baskets ranked by every version."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from bespoke.clock import from_ms
from bespoke.events import Event, ItemId, UserId
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.metrics import ndcg, recall
from bespoke.parsing import parse_event
from bespoke.profiles import EMPTY, Profile, fold
from ingestion.messages import Raw

LIST_LENGTH = 20
TIME_HEADER = "X-Bespoke-Time"


@dataclass(slots=True)
class Replayed:
    """What came of a replay over HTTP."""

    variants: list[str | None] = field(default_factory=list)
    """The variant that answered, by basket; None where there was no answer."""
    ndcg: list[float] = field(default_factory=list)
    """NDCG of the served list against the basket that followed, by basket."""
    failed: int = 0
    degraded: Counter[str] = field(default_factory=Counter)
    latency_ms: list[float] = field(default_factory=list)


def replay(
    baskets: Sequence[Raw], *, url: str, ingest_key: str, recommend_key: str, advance: Callable[[], None]
) -> Replayed:
    """Ask for recommendations just before each basket, then send the basket; one after the other."""
    result = Replayed()
    tokens: dict[str, str] = {}
    with httpx.Client(base_url=url, timeout=30.0) as client:
        for basket in baskets:
            person = str(basket.message["userId"])
            time_header = {TIME_HEADER: from_ms(basket.at_ms).isoformat()}
            body = {"userId": person, "numResults": LIST_LENGTH, "after": tokens.get(person)}
            started = time.perf_counter()
            answer = client.post("/api/v1/recommendations", json=body, headers=time_header, auth=(recommend_key, ""))
            result.latency_ms.append((time.perf_counter() - started) * 1000)
            sent = client.post("/collect/v1/track", json=basket.message, headers=time_header, auth=(ingest_key, ""))
            result.failed += (not answer.is_success) + (not sent.is_success)
            if sent.is_success:
                tokens[person] = sent.json()["token"]
            _note(result, answer.json() if answer.is_success else None, items_of(basket))
            advance()
    return result


def items_of(basket: Raw) -> frozenset[ItemId]:
    """Return what the basket holds."""
    return frozenset(ItemId(str(product["product_id"])) for product in basket.message["properties"]["products"])


def _note(result: Replayed, answer: dict[str, Any] | None, taken: frozenset[ItemId]) -> None:
    ranked = [ItemId(item["itemId"]) for item in answer["items"]] if answer else []
    result.variants.append(answer["variant"] or "none" if answer else None)
    result.ndcg.append(ndcg(ranked, taken, k=LIST_LENGTH))
    if answer and answer["degraded"]:
        result.degraded[answer["degraded"]] += 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """Every basket ranked by every version: NDCG and recall per basket, in the same order, and whose basket it was."""

    people: tuple[UserId, ...]
    ndcg: dict[str, list[float]]
    recall: dict[str, list[float]]


def rank_all(
    baskets: Sequence[Raw], models: dict[str, Model], profiles: dict[UserId, Profile], *, advance: Callable[[], None]
) -> Ranked:
    """Rank each basket with each model as of its time, knowing the person's baskets before it and nothing after."""
    state = dict(profiles)
    people: list[UserId] = []
    gains: dict[str, list[float]] = {name: [] for name in models}
    recalls: dict[str, list[float]] = {name: [] for name in models}
    for basket in baskets:
        event = _event(basket)
        profile, taken = state.get(event.person, EMPTY), items_of(basket)
        history = History(event.person, profile.recent, basket.at_ms)
        for name, model in models.items():
            ranked = [model.vocabulary.ids[row] for row in top_k(model.scores(history), k=LIST_LENGTH)]
            gains[name].append(ndcg(ranked, taken, k=LIST_LENGTH))
            recalls[name].append(recall(ranked, taken, k=LIST_LENGTH))
        people.append(event.person)
        state[event.person] = fold(profile, event)
        advance()
    return Ranked(tuple(people), gains, recalls)


def percentiles(latency_ms: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    return {"p50": float(np.percentile(latency_ms, 50)), "p99": float(np.percentile(latency_ms, 99))}


def _event(basket: Raw) -> Event:
    return parse_event(basket.message, received_at=from_ms(basket.at_ms), replay=True)
