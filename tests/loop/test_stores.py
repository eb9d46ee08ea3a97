"""HTTP to Kafka to PostgreSQL to Redis and back, without Ray; stores stop in between and are caught up with."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn

from bespoke.clock import to_ms
from bespoke.errors import Unavailable
from bespoke.events import UserId
from ingestion.worker import Worker
from serving.applications import create_collector
from storage.control import ControlStore
from storage.features import OnlineFeatures, apply_feature_repo
from storage.lake import Lake
from storage.settings import Settings
from tests.support.servers import free_port, kafka_url, own_postgres, postgres_url, running_kafka, running_redis

PATIENCE_S = 60.0


class House:
    """An installation whose log, profiles and online features are in servers of its own."""

    def __init__(self, home: Path, opened: ExitStack) -> None:
        self.redis, kafka = opened.enter_context(running_redis()), opened.enter_context(running_kafka())
        self.postgres = opened.enter_context(own_postgres())
        (home / "config").mkdir()
        self.settings = Settings(
            home=home,
            config_dir=home / "config",
            log_url=kafka_url(kafka.address, "events"),
            profiles_url=postgres_url(self.postgres),
            online_url=f"redis://{self.redis.address}",
        )
        apply_feature_repo(self.settings)
        with ControlStore(self.settings.control_url) as control:
            _, secret = control.create_key("shop", ["ingest"], datetime.now(UTC))
        url = opened.enter_context(collecting(self.settings))
        self.client = opened.enter_context(httpx.Client(base_url=url, auth=(secret, ""), timeout=30.0))
        self.online = OnlineFeatures(self.settings)
        opened.callback(self.online.close)
        self.processor = opened.enter_context(applying(self.settings))

    def buy(self, person: str, number: int) -> None:
        """Post an order; it must be acknowledged."""
        product = {"product_id": f"i{number}", "price": 1.0}
        message = {"messageId": f"{person}-{number}", "userId": person, "event": "Order Completed"}
        answer = self.client.post("/v1/track", json={**message, "properties": {"products": [product]}})
        assert answer.status_code == 200, answer.text

    def orders(self) -> dict[str, int]:
        """Return how many orders the online store knows of, by person; nobody while it cannot be reached."""
        try:
            found = self.online.read([UserId("ann"), UserId("bob")], service="profile", at_ms=to_ms(datetime.now(UTC)))
        except Unavailable:
            return {}
        return {person: read.profile.orders for person, read in found.items()}


@contextmanager
def collecting(settings: Settings) -> Iterator[str]:
    """Run the collector in a thread; give its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(create_collector(settings), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def applying(settings: Settings) -> Iterator[Worker]:
    """Run the processor in a thread."""
    done, sink = threading.Event(), OnlineFeatures(settings)
    with Worker(settings, sink=sink) as worker:
        thread = threading.Thread(target=worker.processor.run, args=(done.is_set,))
        thread.start()
        try:
            yield worker
        finally:
            done.set()
            thread.join()
            sink.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as opened:
        yield House(tmp_path, opened)


def wait_for(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_at, f"waited {PATIENCE_S:.0f} s in vain"
        threading.Event().wait(0.01)


def test_every_event_comes_through_once_though_stores_stop_in_between(house: House) -> None:
    processor = house.processor.processor
    house.buy("ann", 1)
    house.buy("bob", 1)
    wait_for(lambda: house.orders() == {"ann": 1, "bob": 1})

    house.postgres.stop()
    house.buy("ann", 2)
    wait_for(lambda: processor.waits_for is not None)
    house.buy("ann", 2)
    assert house.orders() == {"ann": 1, "bob": 1}
    house.postgres.start()
    wait_for(lambda: house.orders() == {"ann": 2, "bob": 1})

    house.redis.stop()
    house.buy("ann", 3)
    wait_for(lambda: processor.features_behind is not None)
    house.redis.start()
    wait_for(lambda: house.orders() == {"ann": 3, "bob": 1})

    processor.close()
    events = Lake(house.settings.lake_dir).events(columns=["message_id"])["message_id"].to_pylist()
    assert Counter(events) == Counter(["ann-1", "ann-2", "ann-3", "bob-1"])
