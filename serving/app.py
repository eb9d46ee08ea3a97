"""The Serve applications: ``serving.app:build_app`` is what `bespoke up`, `serve deploy` and `ray up` all start."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.schema import LoggingConfig

from serving.deployments import CollectorReplica, IsolatedReplica, RecommenderReplica
from storage.settings import Settings

ISOLATED = "isolated"
"""The deployment of variants that have a process of their own."""


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
    if config.part is Part.COLLECTOR:
        collector: serve.Application = deployment.bind(settings, config.replicas)
        return collector
    recommender: serve.Application = deployment.bind(settings, config.replicas, _isolated(config, settings))
    return recommender


def _isolated(config: AppConfig, settings: Settings) -> serve.Application:
    """Return the deployment of variants with a process of their own; it has none until the first of them is asked."""
    deployment: Any = serve.deployment(
        name=ISOLATED,
        ray_actor_options={"num_cpus": config.num_cpus},
        autoscaling_config={
            "min_replicas": 0,
            "initial_replicas": 0,
            "max_replicas": config.replicas,
            "upscale_delay_s": 0,
            "downscale_delay_s": 600,
        },
        max_ongoing_requests=32,
        health_check_period_s=5,
        health_check_timeout_s=15,
    )(IsolatedReplica)
    application: serve.Application = deployment.bind(settings)
    return application
