"""An installation in a temporary folder, with a key for each scope, and the collector over it."""

import asyncio
import queue
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

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


class Stream:
    """A request whose answer goes on, made without a socket; each block is read as it comes."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, path: str, query: str, headers: Mapping[str, str]) -> None:
        self._portal, self._asked, self._sent = portal, False, queue.Queue[Any]()
        self._left = portal.call(asyncio.Event)
        self._may_send = portal.call(asyncio.Event)
        portal.call(self._may_send.set)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        self._events: list[dict[str, str]] = []
        self._done = portal.start_task_soon(app, scope, self._receive, self._send)
        start = self._sent.get(timeout=10)
        self.status, self.headers = start["status"], {k.decode(): v.decode() for k, v in start["headers"]}

    async def _receive(self) -> Any:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._may_send.wait()
        self._sent.put(message)

    def block(self) -> str | None:
        """Return what comes next; None where the answer is over."""
        message = self._sent.get(timeout=10)
        return message["body"].decode() if message["more_body"] else None

    def event(self) -> dict[str, str]:
        """Return the fields of the next event, passing over what is none."""
        while not (found := self._events):
            block = self.block()
            assert block is not None, "the stream is over"
            self._events = [
                fields
                for one in block.split("\n\n")
                if "data" in (fields := dict(line.split(": ", 1) for line in one.splitlines() if line[:1] != ":"))
            ]
        return found.pop(0)

    def rest(self) -> str:
        """Return everything until the answer is over."""
        return "".join(iter(self.block, None))

    def hold(self) -> None:
        """Take nothing more, as a client does that is busy."""
        self._portal.call(self._may_send.clear)

    def let_go(self) -> None:
        """Take again."""
        self._portal.call(self._may_send.set)

    def leave(self) -> None:
        """Disconnect, and wait until the application has noticed."""
        self._portal.call(self._left.set)
        self._done.result(10)


class StreamSite:
    """A running application that answers with streams."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, client: httpx.Client, key: str) -> None:
        self._app, self._portal, self._key, self.client = app, portal, key, client

    def open(self, query: str = "", *, last_event_id: str | None = None, key: str | None = None) -> Stream:
        """Ask for the stream of transitions."""
        authorization = "Basic " + b64encode(f"{key or self._key}:".encode()).decode()
        headers = {"Authorization": authorization, **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        return Stream(self._app, self._portal, "/api/v1/segments/stream", query, headers)


@pytest.fixture
def streams_of(new_key: Callable[[str], str]) -> Callable[[FastAPI], AbstractContextManager[StreamSite]]:
    """Return what runs an application whose streams can be read; requests come with scope profiles."""

    @contextmanager
    def run(app: FastAPI) -> Iterator[StreamSite]:
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(app.router.lifespan_context(app)),
            httpx.Client(transport=AppTransport(app, portal), base_url="http://test") as client,
        ):
            yield StreamSite(app, portal, client, new_key("profiles"))

    return run


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
        log = open_event_log(settings.log_url)
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
