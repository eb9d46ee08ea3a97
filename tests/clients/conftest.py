"""A whole service on a real socket, over an installation in a temporary folder, for clients to talk to."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from bespoke.catalog import Item
from bespoke.clock import to_ms
from bespoke.events import Event, ItemId, UserId
from bespoke.models.base import Interactions
from bespoke.models.bundle import Window, write_bundle
from bespoke.models.buy_again import BuyAgain
from bespoke.profiles import EMPTY, Profile
from serving.applications import create_collector, create_recommender
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.settings import Settings

ITEMS = {f"p{n}": float(10 - n) for n in range(10)}
"""Weight of each item: p0 is the most popular one."""
KNOWN = UserId("alice")


@dataclass(frozen=True)
class State:
    """What is known of a person."""

    profile: Profile = EMPTY
    stale: bool = False
    version: int = 3
    segments: tuple[str, ...] = ("vip",)


class People:
    """Features in memory: one person is known."""

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> Mapping[UserId, State]:
        """Return the state of who is known."""
        return {user_id: State() for user_id in user_ids if user_id == KNOWN}

    def ready(self) -> bool:
        """Return whether a read would succeed."""
        return True


@dataclass(frozen=True)
class Service:
    """Where the service listens, and a key for everything that a client may do."""

    url: str
    key: str
    settings: Settings

    def stored(self) -> list[Event]:
        """Return every event in the log that a client has sent."""
        log = open_event_log(self.settings.log_url)
        records = [record for part in range(log.partitions) for record in log.read(part, offset=0, limit=100_000)]
        log.close()
        events = [Event.from_payload(record.payload) for record in records]
        return [event for event in events if event.name != "Recommendation Served"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serve an installation that recommends ten items by popularity."""
    settings = Settings(home=tmp_path_factory.mktemp("clients") / "var")
    now = datetime.now(UTC)
    reference = _publish(settings, now)
    with ControlStore(settings.control_url) as control:
        for pointer in ("champion", "popular"):
            control.set_pointer(pointer, reference, by="test", reason="set-up", at=now)
        _, key = control.create_key("client", ["ingest", "recommend", "profiles"], now)
    with _served(lambda: _whole(settings)) as url:
        yield Service(url, key, settings)


def _publish(settings: Settings, now: datetime) -> str:
    columns = Interactions.from_columns(["u"] * len(ITEMS), list(ITEMS), [to_ms(now)] * len(ITEMS), [*ITEMS.values()])
    model = BuyAgain.fit(columns, at_ms=to_ms(now))

    def write(folder: Path) -> None:
        write_bundle(
            folder,
            model,
            name="buy_again",
            version=folder.name,
            window=Window(since=now - timedelta(days=30), until=now),
            fingerprint="test",
            seed=0,
            metrics={},
            feature_service="als",
            parent=None,
            git_revision=None,
            created_at=now,
            items=[Item(ItemId(id), name=id.upper(), category=("food",), price=weight) for id, weight in ITEMS.items()],
        )

    return f"buy_again@{BundleStore(settings.bundles_dir).publish('buy_again', write, at=now)}"


def _whole(settings: Settings) -> Starlette:
    """Return both applications where an ingress puts them."""
    collector, recommender = create_collector(settings), create_recommender(settings, features=People())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in (collector, recommender):
                await stack.enter_async_context(part.router.lifespan_context(part))
            yield

    return Starlette(routes=[Mount("/collect", collector), Mount("/", recommender)], lifespan=lifespan)


class _served:
    """Serves an application on a free port while the context is open."""

    def __init__(self, make: Callable[[], Starlette]) -> None:
        self._server = uvicorn.Server(uvicorn.Config(make(), port=0, log_config=None, lifespan="on"))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the service did not start"
            self._thread.join(0.01)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
