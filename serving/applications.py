"""The two HTTP applications, put together from one installation's stores. Neither needs Ray."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from bespoke.clock import Clock, SystemClock
from bespoke.errors import Unavailable
from serving.auth import Authenticator, requires
from serving.collect import APPEND_THREADS, Collector, collect_routes
from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers
from serving.health import health_routes
from serving.schemas import Readiness
from serving.times import request_time
from storage.control import ControlStore
from storage.eventlog import EventLog, open_event_log
from storage.settings import Settings

COLLECTOR_LIMITS = Limits(max_body_bytes=500 * 1024, timeout_s=15.0)
"""The timeout leaves room for the log's own wait for another writer, which ends in a 503."""


def create_collector(settings: Settings, *, clock: Clock | None = None, limits: Limits = COLLECTOR_LIMITS) -> FastAPI:
    """Return the application that takes events in; mount it at ``/collect``.

    It opens the stores of ``settings`` now and closes them when its lifespan ends.

    Raises:
        Unavailable: the event log or the control store cannot be opened.
    """
    log, control = open_event_log(settings.log_path), ControlStore(settings.control_url)
    threads = ThreadPoolExecutor(APPEND_THREADS, thread_name_prefix="append")

    def close() -> None:
        threads.shutdown()
        log.close()
        control.close()

    app = FastAPI(title="Bespoke collector", summary="Events in, in the Segment dialect.", lifespan=_closing(close))
    app.state.alive = lambda: True
    app.include_router(
        collect_routes(
            Collector(log, replay=settings.replay),
            check_key=requires(Authenticator(control), "ingest"),
            time=request_time(clock or SystemClock(), replay=settings.replay),
            threads=threads,
        )
    )
    app.include_router(health_routes(lambda: _collector_readiness(log)))
    add_error_handlers(app)
    add_edge(app, limits)
    return app


def _collector_readiness(log: EventLog) -> Readiness:
    try:
        log.end(0)
    except Unavailable:
        return Readiness(ready=False, lacks=("event log",))
    return Readiness(ready=True)


def _closing(close: Callable[[], None]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(close)

    return lifespan
