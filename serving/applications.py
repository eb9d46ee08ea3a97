"""The two HTTP applications, put together from one installation's stores. Neither needs Ray."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI

from bespoke.clock import Clock, SystemClock
from bespoke.errors import Unavailable
from serving.auth import Authenticator, requires
from serving.collect import APPEND_THREADS, Collector, collect_routes
from serving.edge import Limits, add_edge
from serving.errors import add_error_handlers
from serving.exposures import ExposureWriter
from serving.follower import SnapshotFollower
from serving.health import health_routes
from serving.items import Items, item_routes
from serving.models import model_routes
from serving.people import FeatureReader, PeopleReader
from serving.profiles import ProfileReader, Profiles, profile_routes
from serving.recommendations import Recommender, recommendation_routes
from serving.schemas import Readiness
from serving.segment_stream import stream_routes
from serving.segments import SegmentBook, segment_routes
from serving.times import request_time
from serving.transitions import TransitionFeed
from storage.bundles import BundleStore
from storage.control import ControlStore, Scope
from storage.eventlog import EventLog, open_event_log
from storage.features import OnlineFeatures
from storage.features.items import OnlineItems
from storage.quality_counts import QualityCounts
from storage.settings import Settings
from storage.tracking import load_plan

COLLECTOR_LIMITS = Limits(max_body_bytes=500 * 1024, timeout_s=15.0)
"""The timeout leaves room for the log's own wait for another writer, which ends in a 503."""
RECOMMENDER_LIMITS = Limits(max_body_bytes=256 * 1024, timeout_s=5.0)
READ_THREADS = 4
RANK_THREADS = 2
"""Ranking is work for the CPU; more threads would only take turns."""


def create_collector(settings: Settings, *, clock: Clock | None = None, limits: Limits = COLLECTOR_LIMITS) -> FastAPI:
    """Return the application that takes events in; mount it at ``/collect``.

    It opens the stores of ``settings`` now and closes them when its lifespan ends. The quality store may be away:
    counts wait for it.

    Raises:
        ConfigError: the tracking plan is wrong.
        Unavailable: the event log or the control store cannot be opened.
    """
    plan, counts = load_plan(settings.config_dir), QualityCounts(settings.quality_url)
    log, control = open_event_log(settings.log_url), ControlStore(settings.control_url)
    threads = ThreadPoolExecutor(APPEND_THREADS, thread_name_prefix="append")

    def close() -> None:
        threads.shutdown()
        counts.close()
        log.close()
        control.close()

    routes = collect_routes(
        Collector(log, replay=settings.replay, plan=plan, counts=counts),
        check_key=requires(Authenticator(control), Scope.INGEST),
        time=request_time(clock or SystemClock(), replay=settings.replay),
        threads=threads,
    )
    return _application(
        FastAPI(
            title="Bespoke collector",
            summary="Events in, in the Segment dialect.",
            lifespan=_lifespan(start=counts.start, close=close),
        ),
        (routes, health_routes(lambda: _collector_readiness(log, counts))),
        limits=limits,
        alive=lambda: counts.alive,
    )


def create_recommender(
    settings: Settings,
    *,
    features: ProfileReader | None = None,
    clock: Clock | None = None,
    limits: Limits = RECOMMENDER_LIMITS,
) -> FastAPI:
    """Return the application that recommends, shows profiles and tells of segments; mount it at ``/``.

    It opens the stores of ``settings`` now, loads the models that are in force, and closes all when its lifespan ends.

    Args:
        settings: the installation.
        features: where profiles are read; the installation's Feast online store if absent.
        clock: tells the time of requests.
        limits: what it takes on.

    Raises:
        Unavailable: the event log or the control store cannot be opened.
    """
    log, control = open_event_log(settings.log_url), ControlStore(settings.control_url)
    features, items = features or OnlineFeatures(settings), OnlineItems(settings)
    follower = SnapshotFollower(control, BundleStore(settings.bundles_dir))
    exposures, feed, book = ExposureWriter(log), TransitionFeed(log), SegmentBook(settings.config_dir)
    reading = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
    ranking = ThreadPoolExecutor(RANK_THREADS, thread_name_prefix="rank")

    def start() -> None:
        # The first read imports Feast, which takes seconds that no request should wait for.
        features.ready()
        items.ready()
        exposures.start()
        follower.start()

    def close() -> None:
        feed.close()
        for pool in (reading, ranking):
            pool.shutdown()
        exposures.close()
        follower.close()
        items.close()
        log.close()
        control.close()

    authenticator, time = Authenticator(control), request_time(clock or SystemClock(), replay=settings.replay)
    check_key, check_profiles_key = requires(authenticator, Scope.RECOMMEND), requires(authenticator, Scope.PROFILES)
    people = PeopleReader(features, log, threads=reading)
    routes = recommendation_routes(
        Recommender(lambda: follower.snapshot, people, exposures, threads=ranking),
        check_key=check_key,
        time=time,
    )
    return _application(
        FastAPI(
            title="Bespoke",
            summary="Recommendations, profiles and segments.",
            lifespan=_lifespan(start=start, close=close),
        ),
        (
            routes,
            item_routes(Items(items, threads=reading), check_key=check_key, time=time),
            profile_routes(Profiles(features, people, threads=reading), check_key=check_profiles_key, time=time),
            # Before the segments by name: a segment may not be called as the stream is.
            stream_routes(feed, check_key=check_profiles_key, names=book.names),
            segment_routes(book, control, check_key=check_profiles_key),
            model_routes(lambda: follower.snapshot, lacks=lambda: follower.lacks, check_key=check_key),
            health_routes(lambda: _recommender_readiness(follower, features, exposures)),
        ),
        limits=limits,
        alive=lambda: follower.alive and exposures.alive,
    )


def _application(
    app: FastAPI, routers: Iterable[APIRouter], *, limits: Limits, alive: Callable[[], bool] = lambda: True
) -> FastAPI:
    """Return ``app`` with routes, errors and edge; ``app.state.alive`` says whether its threads run."""
    for router in routers:
        app.include_router(router)
    add_error_handlers(app)
    add_edge(app, limits)
    app.state.alive = alive
    return app


def _collector_readiness(log: EventLog, counts: QualityCounts) -> Readiness:
    lost = counts.written
    lacks = []
    if lost.dropped or lost.dropped_failed:
        lacks.append(f"{lost.dropped} counts and {lost.dropped_failed} failed events were dropped since the start")
    try:
        log.end(0)
    except Unavailable:
        return Readiness(ready=False, lacks=("the event log cannot be reached", *lacks))
    return Readiness(ready=True, lacks=tuple(lacks))


def _recommender_readiness(follower: SnapshotFollower, features: FeatureReader, exposures: ExposureWriter) -> Readiness:
    """Ready means that requests get an answer; what would make the answers better is said in ``lacks``."""
    lacks = list(follower.lacks)
    if not features.ready():
        lacks.append("the online features cannot be read")
    if exposures.counts.dropped:
        lacks.append(f"{exposures.counts.dropped} exposures were dropped since this process started")
    return Readiness(ready=follower.ready and follower.alive and exposures.alive, lacks=tuple(lacks))


def _lifespan(
    *, close: Callable[[], None], start: Callable[[], None] = lambda: None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(start)
        yield
        await asyncio.to_thread(close)

    return lifespan
