"""The Serve deployments: each replica holds one of the HTTP applications."""

from fastapi import FastAPI
from ray import serve

from bespoke.errors import Unavailable
from serving.applications import create_collector, create_recommender
from storage.settings import Settings


class _Replica:
    """Holds the application of one replica."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
        self._app = create_collector(self._settings)
        return self._app


@serve.ingress()
class RecommenderReplica(_Replica):
    """Answers with recommendations."""

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this once, in the replica."""
        self._app = create_recommender(self._settings)
        return self._app
