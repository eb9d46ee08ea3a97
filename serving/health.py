"""Probes: whether the process lives, whether it can answer and what it lacks; and what Prometheus counts."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Response

from serving.metrics import CONTENT_TYPE, Metrics
from serving.schemas import Readiness

FRESH_S = 1.0
"""The stores are not looked at more often than this: probes need no key, so anybody may send many."""


def health_routes(readiness: Callable[[], Readiness], *, monotonic: Callable[[], float] = time.monotonic) -> APIRouter:
    """Return the routes ``/healthz`` and ``/readyz``.

    Args:
        readiness: looks at the stores; it may block, so it runs in a thread.
        monotonic: seconds, to tell how old the last look is.
    """
    looked = _Looked(readiness, monotonic)
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz", summary="Whether the process can answer, and what it lacks", responses={503: {"model": Readiness}}
    )
    async def readyz(response: Response) -> Readiness:
        state = await looked.state()
        response.status_code = 200 if state.ready else 503
        return state

    return router


def metrics_routes(metrics: Metrics, *, check_key: Callable[..., Any]) -> APIRouter:
    """Return the route ``/metrics``, which answers for every process of this machine.

    Args:
        metrics: of this process.
        check_key: lets only good keys pass.
    """
    router = APIRouter(tags=["health"], dependencies=[Depends(check_key)])

    @router.get(
        "/metrics",
        summary="What Prometheus counts of the processes of this machine",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def scrape() -> Response:
        # In a thread: it reads a file per process.
        return Response(await asyncio.to_thread(metrics.scrape), media_type=CONTENT_TYPE)

    return router


class _Looked:
    """The last look at the stores; requests that come within ``FRESH_S`` share it."""

    def __init__(self, readiness: Callable[[], Readiness], monotonic: Callable[[], float]) -> None:
        self._readiness = readiness
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._at_s = -math.inf
        self._state = Readiness(ready=False)

    async def state(self) -> Readiness:
        """Return the last look, or look again."""
        async with self._lock:
            if self._monotonic() - self._at_s >= FRESH_S:
                self._state = await asyncio.to_thread(self._readiness)
                self._at_s = self._monotonic()
            return self._state
