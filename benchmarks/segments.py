"""How fast segments follow people: 100 segments of mixed kinds over 10,000 people, each with a new event.

People are drawn with a fixed seed: visits over 90 days with views, carts, orders of one to five lines out of 2,000
items in 20 categories, page calls, a search now and then, traits and a place. One more event is folded into each
profile, and every segment is evaluated on it, the time of the next change included. Scores are read from a table: what
a model needs for one is not in here. One core does it; folding is measured beside it. Timers: benchmarks/timers.py.
"""

import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.harness import Figures, main
from benchmarks.timers import timers
from bespoke.clock import DAY_MS, HOUR_MS, MINUTE_MS
from bespoke.events import INTERACTION_OF_NAME, Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import EMPTY, Profile, fold
from bespoke.segments import Segments, read_segments

PEOPLE, SEGMENTS, ITEMS, CATEGORIES, DAYS = 10_000, 100, 2_000, 20, 90
NOW_MS = 20_000 * DAY_MS
WINDOWS = ("10 minutes", "1 hour", "1 day", "7 days", "30 days")
SCORES = ("churn_30d", "purchase_7d")
AREAS = ("urban", "suburban", "rural")
KINDS = ("Product Viewed", "Product Added", "Order Completed", "page", "Products Searched")
SHARES = (0.5, 0.12, 0.08, 0.27, 0.03)


def run() -> Figures:
    """Fold one event into every profile, evaluate all segments on it; then measure timers."""
    rng = random.Random(0)
    segments = read_segments(documents(), scores=SCORES)
    before = [person(rng) for _ in range(PEOPLE)]
    news = [event(rng, NOW_MS - rng.randrange(2_000)) for _ in range(PEOPLE)]
    scores = [{name: rng.random() for name in SCORES} for _ in range(PEOPLE)]
    started = time.perf_counter()
    after = [fold(profile, one) for profile, one in zip(before, news, strict=True)]
    fold_s = time.perf_counter() - started
    return {**evaluation(segments, after, scores), "folds_per_s": PEOPLE / fold_s, **timers()}


def evaluation(segments: Segments, people: Sequence[Profile], scores: Sequence[dict[str, float]]) -> Figures:
    """Return how fast all segments are evaluated, and what came out."""
    taken: list[float] = []
    inside = with_timer = 0
    for profile, score in zip(people, scores, strict=True):
        started = time.perf_counter()
        found = segments.evaluate(profile, NOW_MS, score=score.get)
        taken.append(time.perf_counter() - started)
        inside += len(found.inside)
        with_timer += found.next_change_ms is not None
    return {
        "evaluations_per_s": len(people) * len(segments.names) / sum(taken),
        "profile_p50_ms": float(np.percentile(taken, 50)) * 1000,
        "profile_p99_ms": float(np.percentile(taken, 99)) * 1000,
        "inside_mean": inside / len(people),
        "with_timer": with_timer / len(people),
        "lines_mean": sum(len(profile.recent) for profile in people) / len(people),
    }


def documents() -> dict[str, Any]:
    """Return 100 segments: as many of each kind, no two the same."""
    return {f"s{n}": SHAPES[n % len(SHAPES)](n // len(SHAPES)) for n in range(SEGMENTS)}


SHAPES = (
    lambda n: {
        "all": [
            {"count": "Product Added", "within": f"{10 + n} minutes", "at_least": 1},
            {"not": {"count": "Order Completed", "within": f"{10 + n} minutes", "at_least": 1}},
        ]
    },
    lambda n: {
        "all": [
            {"feature": "revenue", "above": 100 * (n + 1)},
            {"count": "any", "category": f"c{n}", "within": "30 days", "at_least": 3},
            {"trait": "area", "is": AREAS[n % 3]},
            {"feature": "recency_days", "below": 7},
        ]
    },
    lambda n: {"all": [{"score": SCORES[n % 2], "above": 0.05 * (n + 1)}, {"feature": "orders", "at_least": 2}]},
    lambda n: {"all": [{"distance_from": [45.0 + n, 5.0 + n], "within_km": 250}]},
    lambda n: {
        "any": [{"segment": f"s{10 * n + 1}"}, {"segment": f"s{10 * n + 2}"}, {"not": {"segment": f"s{10 * n}"}}]
    },
    lambda n: {"all": [{"count": "page", "within": WINDOWS[n % 5], "at_least": n + 1}]},
    lambda n: {
        "any": [
            {"count": "Order Completed", "category": [f"c{n}", f"c{n + 1}"], "price_above": 20, "at_least": 2},
            {"feature": "purchases_decayed", "above": n + 1},
        ]
    },
    lambda n: {
        "all": [
            {"count": "Product Viewed", "item": f"i{n}", "within": WINDOWS[n % 5], "at_least": 1},
            {"count": "Order Completed", "within": "7 days", "at_most": n, "of": "lines"},
        ]
    },
    lambda n: {"all": [{"feature": "views_7d", "above": 5 * n}, {"feature": "top_category", "is": f"c{n}"}]},
    lambda n: {
        "all": [
            {"trait": "age", "at_least": 18 + 5 * n, "below": 28 + 5 * n},
            {"trait": "address.country", "one_of": ["NO", "SE", "DK"]},
            {"not": {"count": "any", "within": "1 day", "above": 10 * (n + 1)}},
        ]
    },
)


def person(rng: random.Random) -> Profile:
    """Return somebody with a history: mostly short, now and then long."""
    profile = fold(EMPTY, said(rng, NOW_MS - DAYS * DAY_MS))
    for _ in range(2 + int(rng.expovariate(0.13))):
        at_ms = NOW_MS - int(DAYS * DAY_MS * rng.random() ** 2) - HOUR_MS
        for _ in range(2 + int(rng.expovariate(0.22))):
            at_ms += rng.randrange(1_000, 3 * MINUTE_MS)
            profile = fold(profile, event(rng, min(at_ms, NOW_MS)))
    return profile


def event(rng: random.Random, at_ms: int) -> Event:
    """Return something that somebody did."""
    name = rng.choices(KINDS, SHARES)[0]
    lines = rng.randint(1, 5) if name == "Order Completed" else 1
    place = {"location": {"latitude": 45 + 15 * rng.random(), "longitude": 5 + 20 * rng.random()}}
    return Event(
        message_id=MessageId(""),
        type=EventType.PAGE if name == "page" else EventType.TRACK,
        name=None if name == "page" else name,
        user_id="u",
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=at_ms,
        context=place if rng.random() < 0.2 else {},
        lines=tuple(line(rng) for _ in range(lines)) if name in INTERACTION_OF_NAME else (),
    )


def line(rng: random.Random) -> Line:
    """Return an item; few items are met often."""
    item = int(ITEMS * rng.random() ** 3)
    return Line(ItemId(f"i{item}"), 1.0, 1.0 + item % 97, f"c{item % CATEGORIES}", f"b{item % 50}")


def said(rng: random.Random, at_ms: int) -> Event:
    """Return what somebody said of themselves."""
    traits = {"area": rng.choice(AREAS), "age": rng.randrange(18, 80), "address": {"country": "NO"}}
    return Event(MessageId(""), EventType.IDENTIFY, None, "u", None, at_ms, at_ms, traits=traits)


if __name__ == "__main__":
    main("segments", run, about=(__doc__ or "").strip())
