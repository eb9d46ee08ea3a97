"""An installation in a temporary folder, with a key for each scope, and the collector over it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from bespoke.catalog import Item
from bespoke.clock import FixedClock, to_ms
from bespoke.events import Event, ItemId
from bespoke.models.base import Interactions
from bespoke.models.bundle import Window, write_bundle
from bespoke.models.buy_again import BuyAgain
from serving.applications import create_collector
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.settings import Settings


class AppTransport(httpx.BaseTransport):
    """Carries requests to an application in this process, without a socket."""

    def __init__(self, app: FastAPI, portal: BlockingPortal) -> None:
        self._transport, self._portal = httpx.ASGITransport(app), portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._transport.handle_async_request(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """Run the lifespan of ``app`` and yield a client of it."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        httpx.Client(transport=AppTransport(app, portal), base_url="http://test") as client,
    ):
        yield client


@pytest.fixture
def client_of() -> Callable[[FastAPI], AbstractContextManager[httpx.Client]]:
    """Return what runs an application and yields a client of it."""
    return running


@pytest.fixture
def now() -> datetime:
    """Return the time that every request is served at."""
    return datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return an installation with nothing in it."""
    return Settings(home=tmp_path / "var")


@pytest.fixture
def new_key(settings: Settings, now: datetime) -> Callable[[str], str]:
    """Return what makes a key with a scope."""

    def make(scope: str) -> str:
        with ControlStore(settings.control_url) as control:
            return control.create_key(f"key for {scope}", [scope], now)[1]

    return make


@pytest.fixture
def write_key(new_key: Callable[[str], str]) -> str:
    """Return a key with scope ingest."""
    return new_key("ingest")


@pytest.fixture
def collector(settings: Settings, write_key: str, now: datetime) -> Iterator[httpx.Client]:
    """Return a client of the collector that sends the write key."""
    with running(create_collector(settings, clock=FixedClock(now))) as client:
        client.auth = (write_key, "")
        yield client


@pytest.fixture
def stored(settings: Settings) -> Callable[[], list[Event]]:
    """Return what reads every event of the log."""

    def read() -> list[Event]:
        log = open_event_log(settings.log_path)
        payloads = [r.payload for p in range(log.partitions) for r in log.read(p, offset=0, limit=100_000)]
        log.close()
        return [Event.from_payload(payload) for payload in payloads]

    return read


@pytest.fixture
def publish(settings: Settings, now: datetime) -> Callable[[str, dict[str, float]], str]:
    """Return what publishes a model under a name, from the items' weights; it returns ``name@version``.

    A person's own items come first, then the others by weight.
    """

    def make(name: str, weights: dict[str, float]) -> str:
        items = [Item(ItemId(item_id), name=item_id.upper()) for item_id in weights]
        columns = Interactions.from_columns(
            ["u"] * len(weights), list(weights), [to_ms(now)] * len(weights), list(weights.values())
        )
        model = BuyAgain.fit(columns, at_ms=to_ms(now))

        def write(folder: Path) -> None:
            write_bundle(
                folder,
                model,
                name=name,
                version=folder.name,
                window=Window(since=now - timedelta(days=30), until=now),
                fingerprint="test",
                seed=0,
                metrics={},
                feature_service="als",
                parent=None,
                git_revision=None,
                created_at=now,
                items=items,
            )

        return f"{name}@{BundleStore(settings.bundles_dir).publish(name, write, at=now)}"

    return make
