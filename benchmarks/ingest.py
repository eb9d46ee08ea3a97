"""How fast events come in: over HTTP until they are durable, through the processor to Feast, and from files.

collected: clients post batches of 100 to a whole installation on this machine, load generator included, for
``COLLECT_S`` seconds; an event counts when its 2xx has come. The processor works beside, as it would.
featured: a log of ``MESSAGES`` messages of ``PEOPLE`` people is applied by a processor with online features in SQLite,
from its first message until every state is online. A person who changes several times between two pushes is pushed
once: ``messages_per_push`` says how often that was.
files: The Complete Journey, 155,848 baskets with 1,469,307 lines, catalog and traits, as `bespoke ingest` takes it.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.harness import Figures, main
from bespoke.parsing import encode_event, parse_event
from ingestion.importer import import_files
from ingestion.mapping import load_mapping
from ingestion.worker import Worker
from runtime.demo.journey import data_folder
from runtime.memory import PeakMemory
from runtime.up import Installation
from storage.control import ControlStore
from storage.eventlog import Message, open_event_log
from storage.features import OnlineFeatures, apply_feature_repo
from storage.profiles import StoredProfile
from storage.settings import Settings

MAPPING = Path("config/sources/complete_journey.toml")
COLLECT_S = 20.0
CLIENTS = 4
BATCH = 100
PEOPLE = 22_000
MESSAGES = 80_000
NAMES = ("Product Viewed", "Product Viewed", "Product Viewed", "Product Added", "Order Completed")


def run() -> Figures:
    """Measure all three, one after the other."""
    return {**collected(), **featured(), **from_files()}


def messages(people: int, *, seed: int) -> Iterator[dict[str, Any]]:
    """Yield shop events of random people without end."""
    rng = random.Random(seed)
    for number in itertools.count():
        item = rng.randrange(5_000)
        yield {
            "type": "track",
            "event": rng.choice(NAMES),
            "messageId": f"m-{seed}-{number}",
            "userId": f"person-{rng.randrange(people)}",
            "properties": {
                "product_id": f"item-{item}",
                "category": f"category-{item % 40}",
                "brand": f"brand-{item % 200}",
                "price": 5 + item % 90,
                "quantity": 1,
            },
            "context": {"device": {"type": "mobile"}},
        }


def collected() -> Figures:
    """Post batches to an installation from several clients."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), http_port=8123)
        with Installation(settings) as installation:
            installation.start_ray()
            with ControlStore(settings.control_url) as control:
                _, secret = control.create_key("benchmark", ["ingest"], datetime.now(UTC))
            installation.start_services()
            with ThreadPoolExecutor(CLIENTS) as clients:
                started = time.perf_counter()
                until = started + COLLECT_S
                calls = [clients.submit(_post, installation.url, secret, seed, until) for seed in range(CLIENTS)]
                count = sum(call.result() for call in calls)
                seconds = time.perf_counter() - started
    return {"collected_per_s": count / seconds}


def _post(url: str, secret: str, seed: int, until: float) -> int:
    made = messages(PEOPLE, seed=seed)
    count = 0
    with httpx.Client(base_url=url, auth=(secret, ""), timeout=30) as client:
        while time.perf_counter() < until:
            body = orjson.dumps({"batch": list(itertools.islice(made, BATCH))})
            answer = client.post("/collect/v1/batch", content=body, headers={"content-type": "application/json"})
            answer.raise_for_status()
            count += answer.json()["accepted"]
    return count


class CountingFeatures(OnlineFeatures):
    """Counts the states that are pushed."""

    pushed = 0

    def push(self, rows: Sequence[StoredProfile]) -> None:
        """Push, and count."""
        super().push(rows)
        self.pushed += len(rows)


def featured() -> Figures:
    """Apply a full log with online features."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        apply_feature_repo(settings)
        people = _fill(settings)
        sink = CountingFeatures(settings)
        sink.ready()
        with Worker(settings, sink=sink) as worker:
            started = time.perf_counter()
            processor = worker.processor
            while processor.step() or not processor.features_complete:
                pass
            seconds = time.perf_counter() - started
            processor.close()
        sink.close()
    return {
        "featured_per_s": MESSAGES / seconds,
        "distinct_people": people,
        "messages_per_push": MESSAGES / sink.pushed,
    }


def _fill(settings: Settings) -> int:
    log = open_event_log(settings.log_url)
    received_at, people = datetime.now(UTC), set()
    made = itertools.islice(messages(PEOPLE, seed=0), MESSAGES)
    while some := list(itertools.islice(made, 5_000)):
        events = [parse_event(message, received_at=received_at) for message in some]
        people |= {event.person for event in events}
        log.append(
            [Message(event.person, event.message_id, event.received_ms, encode_event(event)) for event in events]
        )
    log.close()
    return len(people)


def from_files() -> Figures:
    """Import the year into an empty installation."""
    with tempfile.TemporaryDirectory() as home, PeakMemory() as memory:
        result = import_files(data_folder(), load_mapping(MAPPING), Settings(home=Path(home)))
    return {
        "messages_per_s": result.accepted / result.seconds,
        "lines_per_s": result.lines / result.seconds,
        "peak_memory_mb": memory.mb,
        "seconds": result.seconds,
        "messages": result.accepted,
        "rejected": result.rejected,
    }


if __name__ == "__main__":
    main("ingest", run, about=(__doc__ or "").strip())
