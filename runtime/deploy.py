"""Runs the two Serve applications on the Ray that this process is connected to."""

import logging

from ray import serve

from serving.app import AppConfig, Part, build_app
from storage.settings import Settings


def deploy(settings: Settings, *, replicas: int) -> None:
    """Start the collector and the recommender; returns when their replicas run."""
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(http_options={"host": settings.http_host, "port": settings.http_port})
    for part, count in ((Part.COLLECTOR, 1), (Part.RECOMMENDER, replicas)):
        application = build_app(AppConfig(part=part, settings=settings, replicas=count))
        serve.run(application, name=part.value, route_prefix=part.route_prefix)
