"""How long it takes until an event changes what its person is recommended, on an idle system with embedded stores.

A model trained on the first weeks of The Complete Journey serves. People that the system has never seen buy one item.
Recommendations are asked for again and again until they differ from those before; for others, once, with the token.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.harness import Figures, main
from ingestion.importer import import_files
from ingestion.mapping import load_mapping
from runtime.demo.journey import data_folder
from runtime.up import Installation
from storage.control import ControlStore
from storage.settings import Settings
from training.registry import promote
from training.train import TrainRequest, train_and_publish

UNTIL = datetime(2017, 2, 15, tzinfo=UTC)
TRIALS = 200
GIVE_UP_S = 10.0


def run() -> Figures:
    """Measure ``TRIALS`` events without and as many with the token."""
    with (
        tempfile.TemporaryDirectory() as home,
        running(Settings(home=Path(home), http_port=8123, replay=True)) as caller,
    ):
        times = [caller.until_changed(f"plain-{n}", n) for n in range(TRIALS)]
        honoured = [caller.changed_with_token(f"token-{n}", n) for n in range(TRIALS)]
    changed = [seconds for seconds in times if seconds is not None]
    return {
        "p50_ms": float(np.percentile(changed, 50)) * 1000,
        "p99_ms": float(np.percentile(changed, 99)) * 1000,
        "changed_share": len(changed) / TRIALS,
        "token_honoured_share": float(np.mean(honoured)),
    }


@dataclass(frozen=True, slots=True)
class Caller:
    """An application that sends events and asks for recommendations."""

    client: httpx.Client
    items: Sequence[str]

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
