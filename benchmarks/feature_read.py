"""How long reading one person's features takes beside Feast's public call, on each online store, and what writes carry.

Every read is asked twice in turn, of the same person and feature service: as serving does it (`OnlineFeatures.read`,
which gives a whole Profile) and as Feast's documentation does it (`get_online_features(...).to_dict()`, which gives
columns). Both hold the same values, which is checked. People have 1 to 500 recent lines, most of them few.
``ratio_p50`` and ``ratio_p99`` are the worst over services and over SQLite and Redis. Pushes are of 256 people with a
few lines each, as the processor sends them; PostgreSQL is measured beside.
"""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures, main
from bespoke.clock import DAY_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId, UserId
from bespoke.profiles import EMPTY, Profile, fold, from_row
from storage.features import OnlineFeatures, apply_feature_repo
from storage.features.repository import close_store, open_store
from storage.profiles import StoredProfile
from storage.settings import Settings
from tests.support.servers import fresh_schema, running_postgres, running_redis

AT_MS = 20_000 * DAY_MS
PEOPLE, READS, WARM_UP = 400, 2_000, 100
PUSHED, PUSH_ROWS, FEW_LINES = 6_000, 256, 5
SERVICES = ("als", "profile")
COUNTED = ("sqlite", "redis")
ITEMS = 20_000


def run() -> Figures:
    """Measure every store."""
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        urls: dict[str, str | None] = {"sqlite": None}
        urls["redis"] = f"redis://{stack.enter_context(running_redis()).address}"
        urls["postgres"] = stack.enter_context(fresh_schema(stack.enter_context(running_postgres())))
        for name, url in urls.items():
            figures |= _of_store(name, url)
    worst = {f"ratio_{p}": max(figures[f"ratio_{p}@{name}"] for name in COUNTED) for p in ("p50", "p99")}
    return {**worst, **figures}


def _of_store(name: str, url: str | None) -> dict[str, float]:
    with _opened(url) as online:
        pushed = _push_rate(online, people(PUSHED, at_most=FEW_LINES))
        rows = people(PEOPLE, at_most=500)
        for start in range(0, PEOPLE, PUSH_ROWS):
            online.push(rows[start : start + PUSH_ROWS])
        found = {service: _read(online, rows, service) for service in SERVICES}
    figures = {f"push_rows_per_s@{name}": pushed}
    for p, percent in (("p50", 50), ("p99", 99)):
        ratios = []
        for service, (own_s, feast_s) in found.items():
            own, feast = np.percentile(own_s, percent), np.percentile(feast_s, percent)
            figures[f"{service}_{p}_ms@{name}"] = float(own) * 1_000
            figures[f"{service}_feast_{p}_ms@{name}"] = float(feast) * 1_000
            ratios.append(float(own / feast))
        figures[f"ratio_{p}@{name}"] = max(ratios)
    return figures


@contextmanager
def _opened(url: str | None) -> Iterator[OnlineFeatures]:
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), online_url=url)
        apply_feature_repo(settings)
        online = OnlineFeatures(settings)
        yield online
        online.close()


def _push_rate(online: OnlineFeatures, rows: Sequence[StoredProfile]) -> float:
    online.mark()  # connects
    started = time.perf_counter()
    for start in range(0, len(rows), PUSH_ROWS):
        online.push(rows[start : start + PUSH_ROWS])
    return len(rows) / (time.perf_counter() - started)


def _read(online: OnlineFeatures, rows: Sequence[StoredProfile], service: str) -> tuple[list[float], list[float]]:
    """Return the seconds of each read, ours and Feast's."""
    store = open_store(online._view._settings)
    asked, chosen = store.get_feature_service(service), random.Random(7)
    own_s, feast_s = [], []
    for number in range(READS + WARM_UP):
        row = chosen.choice(rows)
        started = time.perf_counter()
        own = online.read([row.user_id], service=service, at_ms=AT_MS)[row.user_id]
        between = time.perf_counter()
        feast = store.get_online_features(asked, entity_rows=[{"user_id": row.user_id}]).to_dict()
        ended = time.perf_counter()
        if number >= WARM_UP:
            own_s.append(between - started)
            feast_s.append(ended - between)
        theirs = from_row({name: values[0] for name, values in feast.items()})
        assert (own.profile, own.version) == (theirs, feast["version"][0]), row.user_id
        assert service != "profile" or own.profile == row.profile, row.user_id
    close_store(store)
    return own_s, feast_s


@cache
def people(count: int, *, at_most: int) -> tuple[StoredProfile, ...]:
    """Return people with up to ``at_most`` recent lines each, most with few."""
    rng = random.Random(count)
    lines = [min(max(round(rng.lognormvariate(3.8, 1.2)), 1), at_most) for _ in range(count)]
    return tuple(
        StoredProfile(UserId(f"person-{n}"), _profile(rng, f"person-{n}", lines=some), version=n + 1, partition=0)
        for n, some in enumerate(lines)
    )


def _profile(rng: random.Random, user: str, *, lines: int) -> Profile:
    profile, left, at_ms = EMPTY, lines, AT_MS - 300 * DAY_MS
    while left > 0:
        some, name = min(left, rng.randrange(1, 9)), rng.choice(("Product Viewed", "Order Completed", "Product Added"))
        at_ms, left = min(at_ms + rng.randrange(6 * DAY_MS), AT_MS - 1), left - some
        profile = fold(
            profile,
            Event(
                message_id=MessageId(f"{user}-{left}"),
                type=EventType.TRACK,
                name=name,
                user_id=user,
                anonymous_id=None,
                at_ms=at_ms,
                received_ms=at_ms,
                lines=tuple(_line(rng) for _ in range(some)),
            ),
        )
    return profile


def _line(rng: random.Random) -> Line:
    item = rng.randrange(ITEMS)
    return Line(ItemId(f"{item:07}"), float(rng.randrange(1, 4)), item % 97 / 4 + 1, f"category {item % 40}")


if __name__ == "__main__":
    main("feature_read", run, runs=3, about=(__doc__ or "").strip())
