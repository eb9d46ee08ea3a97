"""An application from its routes: errors, edge, metrics and the OpenAPI document around them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI

from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers
from serving.metrics import Metrics
from serving.openapi import complete_openapi


def assembled(
    app: FastAPI,
    routers: Iterable[APIRouter],
    *,
    limits: Limits,
    metrics: Metrics,
    alive: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return ``app`` with routes, errors and edge; ``app.state.alive`` says whether its threads run."""
    for router in routers:
        app.include_router(router)
    add_error_handlers(app)
    add_edge(app, limits, metrics=metrics)
    complete_openapi(app)
    app.state.alive = alive
    return app


def lifespan_of(
    *, close: Callable[[], None], start: Callable[[], None] = lambda: None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan of an application whose stores and threads are begun and ended so."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(start)
        # A full collection looks through all that lives, for some 0.2 s in which nothing is answered. Nearly all of
        # it lives as long as the application.
        gc.freeze()
        yield
        gc.unfreeze()
        await asyncio.to_thread(close)

    return lifespan
