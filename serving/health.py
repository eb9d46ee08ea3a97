"""Probes: whether the process lives, and whether it can answer and what it lacks."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Response

from serving.schemas import Readiness


def health_routes(readiness: Callable[[], Readiness]) -> APIRouter:
    """Return the routes ``/healthz`` and ``/readyz``.

    Args:
        readiness: looks at the stores; it may block, so it runs in a thread.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Whether the process answers at all")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Whether the process can answer, and what it lacks", responses={503: {}})
    async def readyz(response: Response) -> Readiness:
        state = await asyncio.to_thread(readiness)
        response.status_code = 200 if state.ready else 503
        return state

    return router
