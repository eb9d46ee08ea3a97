"""Which model versions this process should serve, and which it serves."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends

from serving.schemas import ErrorBody, ModelInfo, ModelsResponse
from serving.snapshot import ServedModel, Snapshot


def model_routes(
    snapshot: Callable[[], Snapshot], *, lacks: Callable[[], tuple[str, ...]], check_key: Callable[..., Any]
) -> APIRouter:
    """Return the route ``GET /api/v1/models``.

    Args:
        snapshot: what is served.
        lacks: what is missing of what should be served, in words.
        check_key: lets only good keys pass; errors name paths, so nobody else may see them.
    """
    router = APIRouter(prefix="/api/v1", tags=["models"], dependencies=[Depends(check_key)])

    @router.get("/models", summary="The versions that are wanted and active", responses={401: {"model": ErrorBody}})
    async def list_models() -> ModelsResponse:
        current = snapshot()
        return ModelsResponse(
            models=tuple(map(_info, current.models.values())),
            experiments=tuple(sorted(current.traffic.by_name)),
            lacks=lacks(),
        )

    return router


def _info(model: ServedModel) -> ModelInfo:
    return ModelInfo(
        pointer=model.name,
        wanted=model.wanted,
        active=model.active,
        kind=None if model.bundle is None else model.bundle.manifest.kind,
        error=model.error,
    )
