"""The real segment-analytics-python client against the collector over real HTTP: nothing is lost."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from segment.analytics.client import Client
from segment.analytics.request import _session
from starlette.types import ASGIApp, Receive, Scope, Send

from bespoke.events import Event
from serving.applications import create_collector
from storage.settings import Settings


def below(prefix: str, app: ASGIApp) -> ASGIApp:
    """Return ``app`` as Serve mounts it: the path stays whole, ``root_path`` says which part is not the app's."""

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": prefix} if scope["type"] == "http" else scope, receive, send)

    return mounted


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """Serve ``app`` on a free port; yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def send_everything(client: Client, people: int) -> None:
    """Send a message of each type for each of ``people``."""
    for n in range(people):
        user = f"u{n}"
        client.identify(user, {"plan": "pro", "n": n})
        client.track(user, "Product Viewed", {"product_id": f"p{n}", "price": 9.5, "quantity": 1})
        client.page(user, "Docs", "Home", {"url": "https://example.org"})
        client.screen(anonymous_id=f"a{n}", name="Start")
        client.alias(f"a{n}", user)
        client.group(user, "g1", {"size": 3})
    client.flush()
    client.join()


@pytest.mark.parametrize("gzip", [False, True])
def test_segment_client_delivers_everything(
    settings: Settings, write_key: str, stored: Callable[[], list[Event]], gzip: bool
) -> None:
    failures: list[Any] = []
    with served(below("/collect", create_collector(settings))) as url:
        client = Client(write_key, host=f"{url}/collect", gzip=gzip, on_error=lambda *error: failures.append(error))
        send_everything(client, 200)
        _session.close()
    events = stored()
    assert failures == []
    assert Counter(event.type.value for event in events) == dict.fromkeys(
        ("identify", "track", "page", "screen", "alias", "group"), 200
    )
    viewed = {event.user_id: event.lines[0].item_id for event in events if event.name == "Product Viewed"}
    assert viewed == {f"u{n}": f"p{n}" for n in range(200)}
    assert {event.user_id: event.traits for event in events if event.type == "identify"}["u7"] == {
        "plan": "pro",
        "n": 7,
    }
