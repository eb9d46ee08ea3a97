"""The Serve deployments: each replica holds one of the HTTP applications."""

import sys
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from bespoke.errors import Unavailable
from bespoke.experiments import Placement
from bespoke.recommend import Request
from serving.applications import create_collector, create_recommender
from serving.isolated import Apart, IsolatedRanker
from serving.logs import configure_logs
from serving.metrics import Metrics, metrics_folder
from storage.settings import Settings

SWITCH_S = 0.0005
"""So long a thread of a replica may go on where another one waits for the interpreter."""


class _Replica:
    """Holds the application of one replica."""

    def __init__(self, settings: Settings, replicas: int = 1) -> None:
        configure_logs()
        # Threads that follow, write and load take their turns beside requests: short ones, 5 ms by default.
        sys.setswitchinterval(SWITCH_S)
        self._settings, self._replicas = settings, replicas
        self._app: FastAPI | None = None

    def check_health(self) -> None:
        """Raise where the replica should be replaced; a store that cannot be reached is no such case."""
        if self._app is not None and not self._app.state.alive():
            raise Unavailable("a background thread of this replica has ended; Serve starts another replica")


@serve.ingress()
class CollectorReplica(_Replica):
    """Takes events in."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this once, in the replica."""
        self._app = create_collector(
            self._settings,
            metrics=Metrics("collector", folder=metrics_folder(self._settings)),
            replicas=self._replicas,
        )
        return self._app


class IsolatedReplica:
    """Decides for the variants that ask for a process of their own."""

    def __init__(self, settings: Settings) -> None:
        configure_logs()
        self._ranker = IsolatedRanker(settings)

    async def decide(self, placement: Placement, request: Request) -> Apart:
        """Decide for one request."""
        return await self._ranker.decide(placement, request)

    def check_health(self) -> None:
        """Raise where the replica should be replaced."""
        if not self._ranker.alive:
            raise Unavailable("the thread that follows the models has ended; Serve starts another replica")


@serve.ingress()
class RecommenderReplica(_Replica):
    """Answers with recommendations."""

    def __init__(self, settings: Settings, replicas: int = 1, isolated: DeploymentHandle[Any] | None = None) -> None:
        super().__init__(settings, replicas)
        self._isolated = isolated

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this once, in the replica."""
        self._app = create_recommender(
            self._settings,
            metrics=Metrics("recommender", folder=metrics_folder(self._settings)),
            replicas=self._replicas,
            ask_apart=None if self._isolated is None else self._ask_apart,
        )
        return self._app

    async def _ask_apart(self, placement: Placement, request: Request) -> Apart:
        assert self._isolated is not None
        apart: Apart = await self._isolated.decide.remote(placement, request)
        return apart
