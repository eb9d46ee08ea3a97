"""The Serve applications: ``serving.app:build_app`` is what `bespoke up`, `serve deploy` and `ray up` all start."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.schema import LoggingConfig

from serving.deployments import CollectorReplica, RecommenderReplica
from storage.settings import Settings


class Part(StrEnum):
    """Which of the two applications; also the name to run it under."""

    COLLECTOR = "collector"
    RECOMMENDER = "recommender"

    @property
    def route_prefix(self) -> str:
        """Where it is mounted."""
        return "/collect" if self is Part.COLLECTOR else "/"


class AppConfig(BaseModel):
    """One Serve application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: Part = Field(description="The application to build.")
    settings: Settings = Field(
        default_factory=Settings, description="The installation; from the environment if absent."
    )
    replicas: int = Field(default=1, ge=1, le=100, description="Processes that share the requests.")
    num_cpus: float = Field(default=0.5, ge=0, le=64, description="CPUs that Ray sets aside for each replica.")


def build_app(config: AppConfig) -> serve.Application:
    """Return the Serve application that ``config`` names; run it under its part's name and route prefix."""
    # Replicas run in other working directories.
    settings = config.settings.absolute()
    replica: Any = CollectorReplica if config.part is Part.COLLECTOR else RecommenderReplica
    deployment = serve.deployment(
        name=config.part.value,
        num_replicas=config.replicas,
        ray_actor_options={"num_cpus": config.num_cpus},
        # Above the edge's own limit, so that the edge refuses first, in its own words.
        max_ongoing_requests=256,
        max_queued_requests=256,
        # A code update starts the new replica before the old one stops, also where there is only one.
        max_surge_percent=100,
        health_check_period_s=5,
        health_check_timeout_s=15,
        graceful_shutdown_timeout_s=10,
        # Serve's access log repeats headers that clients choose.
        logging_config=LoggingConfig(enable_access_log=False),
    )(replica)
    application: serve.Application = deployment.bind(settings)
    return application
