"""How long it takes until an event is seen online, and until it changes what its person is recommended.

A model trained on the first weeks of The Complete Journey serves from a whole installation on this machine, load
generator included, with online features in SQLite and then in a Redis of its own. Under a steady ``LOAD_PER_S`` events
per second of other people, people that the system has never seen buy one item:

feature: from sending the event until a read of the online store shows it;
recommendation: from sending it until an answer differs from the one before, asked for again and again;
token: whether the first answer after the event, asked for with its token, differs and says that it reflects the event.

Before that the load runs for ``WARM_UP_S``: in the first seconds after a start processes import what they need, and the
import's backlog of item counts goes online.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from benchmarks.harness import Figures, main
from bespoke.clock import to_ms
from bespoke.events import UserId
from ingestion.importer import import_files
from ingestion.mapping import load_mapping
from runtime.demo.journey import data_folder
from runtime.up import Installation
from storage.control import ControlStore
from storage.features import OnlineFeatures
from storage.settings import Settings
from tests.support.servers import running_redis
from training.registry import promote
from training.train import TrainRequest, train_and_publish

UNTIL = datetime(2017, 2, 15, tzinfo=UTC)
TRIALS = 300
LOAD_PER_S = 100
LOAD_PEOPLE = 2_000
WARM_UP_S = 10.0
GIVE_UP_S = 10.0
POLL_S = 0.001


def run() -> Figures:
    """Measure with SQLite and with Redis."""
    with running_redis() as redis:
        stores = {"sqlite": None, "redis": f"redis://{redis.address}"}
        found: dict[str, float] = {}
        for store, online_url in stores.items():
            with TemporaryDirectory() as home:
                settings = Settings(home=Path(home), http_port=8123, replay=True, online_url=online_url)
                with running(settings) as caller, loading(caller) as load:
                    time.sleep(WARM_UP_S)
                    figures = measured(caller, settings)
                    figures["sent_per_s"] = load.per_s()
            found |= {f"{name}@{store}": value for name, value in figures.items()}
    found["token_honoured_share"] = min(found[f"token_honoured_share@{store}"] for store in stores)
    return found


def measured(caller: "Caller", settings: Settings) -> dict[str, float]:
    """Return the figures of one online store."""
    online = OnlineFeatures(settings)
    online.ready()
    seen = [caller.until_online(f"seen-{n}", n, online) for n in range(TRIALS)]
    online.close()
    times = [caller.until_changed(f"plain-{n}", n) for n in range(TRIALS)]
    honoured = [caller.changed_with_token(f"token-{n}", n) for n in range(TRIALS)]
    changed = [seconds for seconds in times if seconds is not None]
    return {
        "feature_p50_ms": float(np.percentile(seen, 50)) * 1000,
        "feature_p99_ms": float(np.percentile(seen, 99)) * 1000,
        "recommendation_p50_ms": float(np.percentile(changed, 50)) * 1000,
        "recommendation_p99_ms": float(np.percentile(changed, 99)) * 1000,
        "changed_share": len(changed) / TRIALS,
        "token_honoured_share": float(np.mean(honoured)),
    }


class Load:
    """Sends events of other people at a steady rate, from a thread with a connection of its own."""

    def __init__(self, caller: "Caller") -> None:
        self._caller, self._stop = caller, threading.Event()
        self._sent, self._started = 0, time.perf_counter()
        self._thread = threading.Thread(target=self._run)

    def per_s(self) -> float:
        """Return how many events were sent per second."""
        return self._sent / (time.perf_counter() - self._started)

    def _run(self) -> None:
        with httpx.Client(base_url=self._caller.client.base_url, auth=self._caller.client.auth, timeout=30) as client:
            caller = Caller(client, self._caller.items)
            while not self._stop.is_set():
                caller.buy(f"other-{self._sent % LOAD_PEOPLE}", self._sent)
                self._sent += 1
                behind = self._started + self._sent / LOAD_PER_S - time.perf_counter()
                self._stop.wait(max(behind, 0.0))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def loading(caller: "Caller") -> Load:
    """Return a load that runs while its context is open."""
    return Load(caller)


@dataclass(frozen=True, slots=True)
class Caller:
    """An application that sends events and asks for recommendations."""

    client: httpx.Client
    items: Sequence[str]

    def until_online(self, person: str, number: int, online: OnlineFeatures) -> float:
        """Return the seconds from sending an event until the online store shows it; infinite where it never does."""
        at_ms, user_id = to_ms(UNTIL), UserId(person)
        started = time.perf_counter()
        self.buy(person, number)
        while time.perf_counter() - started < GIVE_UP_S:
            if online.read([user_id], service="als", at_ms=at_ms):
                return time.perf_counter() - started
            time.sleep(POLL_S)
        return float("inf")

    def until_changed(self, person: str, number: int) -> float | None:
        """Return the seconds from sending an event to a changed answer; None where it never comes."""
        before = self.recommend(person)
        started = time.perf_counter()
        self.buy(person, number)
        while time.perf_counter() - started < GIVE_UP_S:
            if self.recommend(person)["items"] != before["items"]:
                return time.perf_counter() - started
        return None

    def changed_with_token(self, person: str, number: int) -> bool:
        """Return whether the first answer after the event reflects it, and says so."""
        before = self.recommend(person)
        after = self.recommend(person, after=self.buy(person, number))
        return bool(after["reflects"] is True and after["items"] != before["items"])

    def buy(self, person: str, number: int) -> str:
        """Send a purchase; return its token."""
        item = self.items[number % len(self.items)]
        properties = {"products": [{"product_id": item, "quantity": 1, "price": 1.0}]}
        body = {
            "messageId": f"{person}-{number}",
            "userId": person,
            "event": "Order Completed",
            "properties": properties,
        }
        return str(self._post("/collect/v1/track", body)["token"])

    def recommend(self, person: str, after: str | None = None) -> dict[str, Any]:
        """Ask for ten items."""
        return self._post("/api/v1/recommendations", {"userId": person, "numResults": 10, "after": after})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())


@contextmanager
def running(settings: Settings) -> Iterator[Caller]:
    """Bring up an installation with a model trained on six weeks of real baskets."""
    import_files(data_folder(), load_mapping(Path("config/sources/complete_journey.toml")), settings, until=UNTIL)
    with Installation(settings) as installation:
        installation.start_ray()
        pointers = {"blend": "champion", "buy_again": "challenger", "popularity": "popular"}
        request = TrainRequest(tuple(pointers), UNTIL, timedelta(days=30), force=True)
        for kind, reference in train_and_publish(request, settings, say=lambda _: None).references.items():
            promote(settings, reference, pointer=pointers[kind], by="benchmark", reason="set-up")
        with ControlStore(settings.control_url) as control:
            _, secret = control.create_key("benchmark", ["ingest", "recommend"], datetime.now(UTC))
        installation.start_services()
        installation.wait_until_applied()
        headers = {"X-Bespoke-Time": UNTIL.isoformat()}
        with httpx.Client(base_url=installation.url, auth=(secret, ""), headers=headers, timeout=30) as client:
            yield Caller(client, _items(settings))


def _items(settings: Settings) -> list[str]:
    """Return a hundred items that are sold regularly but are nobody's first offer, in a fixed order."""
    from storage.lake import Lake

    sold = Lake(settings.lake_dir).interactions()["item_id"].value_counts().to_pylist()
    by_count = sorted(sold, key=lambda row: (row["counts"], row["values"]))
    return [row["values"] for row in by_count[-600:-500]]


if __name__ == "__main__":
    main("freshness", run, runs=3, about=(__doc__ or "").strip())
