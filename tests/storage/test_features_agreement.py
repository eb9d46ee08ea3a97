"""What training reads of the past is what serving read at the time: in the state and in every derived feature."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bespoke.clock import SystemClock, to_ms
from bespoke.events import Event, UserId
from bespoke.features import FeatureVector, features
from bespoke.parsing import parse_event
from bespoke.profiles import STATE_COLUMNS, from_row, to_row
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from storage.eventlog import open_event_log
from storage.features import OnlineFeatures, apply_feature_repo, historical_features
from storage.lake import Lake
from storage.profiles import ProfileStore, StoredProfile
from storage.settings import Settings
from tests.support.messages import as_message
from tests.support.servers import fresh_schema

PEOPLE, COMMITS, OF_A_COMMIT, PAIRS = 30, 60, 25, 1_000
DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("Product Viewed", "Product Added", "Order Completed", "Order Refunded", "Product Clicked")


@dataclass(frozen=True)
class Seen:
    """What one online store said of somebody at one time, and what the lake says of it later."""

    online: list[tuple[dict[str, Any], FeatureVector]]
    past: list[tuple[dict[str, Any], FeatureVector]]


class Everywhere:
    """Pushes to several online stores."""

    def __init__(self, stores: dict[str, OnlineFeatures]) -> None:
        self._stores = stores.values()

    def push(self, rows: Sequence[StoredProfile]) -> None:
        for store in self._stores:
            store.push(rows)

    def marked(self) -> bool:
        return all(store.marked() for store in self._stores)

    def mark(self) -> None:
        for store in self._stores:
            store.mark()


def happened(rng: random.Random, number: int, *, received: datetime) -> Event:
    """Return an event of a random person: now and then a late one, a trait, or one without items."""
    user = f"u{rng.randrange(PEOPLE)}"
    at = received - timedelta(days=rng.choice((0, 0, 0, rng.uniform(0, 20))))
    message: dict[str, Any] = {"messageId": f"m{number}", "userId": user, "timestamp": at.isoformat()}
    if rng.random() < 0.1:
        message |= {"type": "identify", "traits": {"city": f"city-{rng.randrange(3)}", "age": rng.randrange(90)}}
    else:
        item = {
            "product_id": f"i{rng.randrange(50)}",
            "price": rng.randrange(1, 900) / 7,
            "quantity": rng.randrange(1, 4),
        }
        item |= {"category": f"c{rng.randrange(6)}", "brand": f"b{rng.randrange(4)}"}
        message |= {"type": "track", "event": rng.choice(NAMES), "properties": {"products": [item]}}
    return parse_event(message, received_at=received)


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, redis_server: str, postgres_server: str
) -> Iterator[dict[str, Seen]]:
    """Run a processor over random events, asking each store now and then; later ask the lake for the same."""
    home, rng = tmp_path_factory.mktemp("agreement"), random.Random(11)
    with ExitStack() as stack:
        urls = {"sqlite": None, "redis": f"redis://{redis_server}/5"}
        urls["postgres"] = stack.enter_context(fresh_schema(postgres_server))
        settings = {name: Settings(home=home, online_url=url) for name, url in urls.items()}
        stores = {name: OnlineFeatures(one) for name, one in settings.items()}
        for name, one in settings.items():
            apply_feature_repo(one)
            stack.callback(stores[name].close)
        asked, said = simulated(home, stores, rng)
        people = pa.table(
            {
                "user_id": [id for id, _ in asked],
                "event_timestamp": pa.array([at for _, at in asked], pa.timestamp("ms", "UTC")),
            }
        )
        past = {
            name: derived(historical_features(one, people, service="profile"), asked) for name, one in settings.items()
        }
        yield {name: Seen(said[name], past[name]) for name in stores}


def simulated(
    home: Path, stores: dict[str, OnlineFeatures], rng: random.Random
) -> tuple[list[tuple[UserId, int]], dict[str, list[tuple[dict[str, Any], FeatureVector]]]]:
    """Return who was asked for and when, and what each store said."""
    log, profiles = open_event_log(home / "log.db", partitions=2), ProfileStore(f"sqlite:///{home / 'profiles.db'}")
    writer = LakeWriter(Lake(home / "lake"), log, profiles)
    processor = Processor(log, profiles, writer, partitions=(0, 1), sink=Everywhere(stores), clock=SystemClock())
    asked: list[tuple[UserId, int]] = []
    said: dict[str, list[tuple[dict[str, Any], FeatureVector]]] = {name: [] for name in stores}
    for commit in range(COMMITS):
        # Several are received in the same millisecond; of two commits, never.
        received = [DAY_0 + timedelta(hours=7 * commit, seconds=rng.randrange(3)) for _ in range(OF_A_COMMIT)]
        events = [happened(rng, 1_000 * commit + n, received=at) for n, at in enumerate(sorted(received))]
        log.append([as_message(one) for one in (*events, events[0])])
        while processor.step():
            pass
        at_ms = to_ms(DAY_0 + timedelta(hours=7 * commit, seconds=3 + rng.randrange(3_600)))
        users = [UserId(f"u{n}") for n in rng.choices(range(PEOPLE), k=PAIRS // COMMITS + 1)]
        asked += [(user, at_ms) for user in users]
        for name, store in stores.items():
            found = store.read(list(set(users)), service="profile", at_ms=at_ms)
            for user in users:
                profile = found[user].profile if user in found else from_row({})
                said[name].append((to_row(profile), features(profile, at_ms)))
    processor.close()
    log.close()
    profiles.close()
    return asked, said


def derived(table: pa.Table, asked: list[tuple[UserId, int]]) -> list[tuple[dict[str, Any], FeatureVector]]:
    profiles = [from_row(row) for row in table.to_pylist()]
    return [(to_row(one), features(one, at_ms)) for one, (_, at_ms) in zip(profiles, asked, strict=True)]


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
def test_a_thousand_states_of_the_past_equal_what_was_online(answers: dict[str, Seen], store: str) -> None:
    seen = answers[store]
    assert len(seen.online) == len(seen.past) >= PAIRS
    pairs = list(zip(seen.online, seen.past, strict=True))
    assert [one for one, (online, past) in enumerate(pairs) if online[0] != past[0]] == []
    assert {name for (row, _), _ in pairs for name, value in row.items() if value} >= STATE_COLUMNS.keys() - NEVER_SAID


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
def test_a_thousand_vectors_of_the_past_equal_what_was_online(answers: dict[str, Seen], store: str) -> None:
    for (_, online), (_, past) in zip(answers[store].online, answers[store].past, strict=True):
        np.testing.assert_array_equal(online, past)


NEVER_SAID = {"device_names", "device_events", "device_ms", "location_ms", "latitude", "longitude"}
"""Columns that events of this simulation do not reach."""
