"""The two HTTP applications, put together from one installation's stores. Neither needs Ray."""

from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI

from bespoke.clock import Clock, SystemClock
from bespoke.profiles import STATE_COLUMNS
from serving.assembly import assembled, lifespan_of
from serving.assignments import Assignments
from serving.auth import Authenticator, requires
from serving.catalog import LiveItems, catalog_routes
from serving.collect import APPEND_THREADS, Collector, collect_routes
from serving.edge import Limits
from serving.explain import explain_routes
from serving.exposures import ExposureWriter
from serving.follower import SnapshotFollower
from serving.health import health_routes, metrics_routes
from serving.isolated import AskApart
from serving.items import Items, item_routes
from serving.metrics import Metrics
from serving.models import model_routes
from serving.people import PeopleReader
from serving.profiles import ProfileReader, Profiles, profile_routes
from serving.readiness import collector_readiness, count_models, recommender_readiness
from serving.recommendations import recommendation_routes
from serving.recommender import Beside, Recommender
from serving.replay import Replayer
from serving.segment_stream import stream_routes
from serving.segments import SegmentBook, segment_routes
from serving.times import request_time
from serving.transitions import TransitionFeed
from serving.version_health import VersionHealth
from storage.bundles import BundleStore
from storage.control import ControlStore, Scope
from storage.decision_log import DecisionLog
from storage.eventlog import open_event_log
from storage.features import OnlineFeatures
from storage.features.items import OnlineItems
from storage.lake import Lake
from storage.quality_counts import QualityCounts
from storage.serving_state import ServingState
from storage.settings import Settings
from storage.tracking import load_plan

COLLECTOR_LIMITS = Limits(max_body_bytes=500 * 1024, timeout_s=15.0)
"""The timeout leaves room for the log's own wait for another writer, which ends in a 503."""
RECOMMENDER_LIMITS = Limits(max_body_bytes=256 * 1024, timeout_s=5.0)
READ_THREADS = 4
SHADOW_THREADS = 1
"""Shadows are work for the CPU that nobody waits for."""


def create_collector(
    settings: Settings,
    *,
    clock: Clock | None = None,
    limits: Limits = COLLECTOR_LIMITS,
    metrics: Metrics | None = None,
    replicas: int = 1,
) -> FastAPI:
    """Return the application that takes events in; mount it at ``/collect``.

    It opens the stores of ``settings`` now and closes them when its lifespan ends. The quality store may be away:
    counts wait for it.

    Args:
        settings: the installation.
        clock: tells the time of requests.
        limits: what it takes on.
        metrics: where it counts; metrics of its own if absent.
        replicas: processes that share the requests, and with them the rates of keys.

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

    metrics, authenticator = metrics or Metrics("collector"), Authenticator(control, share=1 / replicas)
    routes = collect_routes(
        Collector(log, replay=settings.replay, plan=plan, counts=counts, metrics=metrics),
        check_key=requires(authenticator, Scope.INGEST),
        time=request_time(clock or SystemClock(), replay=settings.replay),
        threads=threads,
    )
    return assembled(
        FastAPI(
            title="Bespoke collector",
            summary="Events in, in the Segment dialect.",
            lifespan=lifespan_of(start=counts.start, close=close),
        ),
        (
            routes,
            health_routes(lambda: collector_readiness(log, counts)),
            metrics_routes(metrics, check_key=requires(authenticator, Scope.METRICS)),
        ),
        limits=limits,
        metrics=metrics,
        alive=lambda: counts.alive,
    )


def create_recommender(
    settings: Settings,
    *,
    features: ProfileReader | None = None,
    clock: Clock | None = None,
    limits: Limits = RECOMMENDER_LIMITS,
    metrics: Metrics | None = None,
    replicas: int = 1,
    ask_apart: AskApart | None = None,
) -> FastAPI:
    """Return the application that recommends, shows profiles and tells of segments; mount it at ``/``.

    It opens the stores of ``settings`` now, loads the models that are in force, and closes all when its lifespan ends.

    Args:
        settings: the installation.
        features: where profiles are read; the installation's Feast online store if absent.
        clock: tells the time of requests.
        limits: what it takes on.
        metrics: where it counts; metrics of its own if absent.
        replicas: processes that share the requests, and with them the rates of keys.
        ask_apart: asks the process of isolated variants; None where there is none.

    Raises:
        Unavailable: the event log or the control store cannot be opened.
    """
    log, control = open_event_log(settings.log_url), ControlStore(settings.control_url)
    features, items = features or OnlineFeatures(settings), OnlineItems(settings)
    bundles = BundleStore(settings.bundles_dir)
    turns = settings.home / "snapshot.lock"
    follower = SnapshotFollower(control, bundles, config_dir=settings.config_dir, turns=turns)
    assignments, health = Assignments(lambda: ServingState(settings.serving_url)), VersionHealth(control)
    exposures, feed, book = ExposureWriter(log), TransitionFeed(log), SegmentBook(settings.config_dir)
    reading = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
    shadowing = ThreadPoolExecutor(SHADOW_THREADS, thread_name_prefix="shadow")
    # A decision that is made again reads the lake, which may take seconds.
    replaying = ThreadPoolExecutor(1, thread_name_prefix="replay")
    replayer = Replayer(
        DecisionLog(Lake(settings.lake_dir), log),
        control,
        bundles,
        features=features,
        columns=features.columns if isinstance(features, OnlineFeatures) else lambda _: STATE_COLUMNS,
        kit=lambda: follower.snapshot.kit,
    )

    def start() -> None:
        # The first read imports Feast, which takes seconds that no request should wait for.
        features.ready()
        items.ready()
        exposures.start()
        assignments.start()
        health.start()
        follower.start()

    def close() -> None:
        feed.close()
        for pool in (reading, shadowing, replaying):
            pool.shutdown()
        exposures.close()
        assignments.close()
        health.close()
        follower.close()
        items.close()
        log.close()
        control.close()

    metrics, authenticator = metrics or Metrics("recommender"), Authenticator(control, share=1 / replicas)
    metrics.add_source(lambda: count_models(metrics, follower, exposures))
    time = request_time(clock or SystemClock(), replay=settings.replay)
    check_key, check_profiles_key = requires(authenticator, Scope.RECOMMEND), requires(authenticator, Scope.PROFILES)
    at_once = features.read_at_once if isinstance(features, OnlineFeatures) else None
    people = PeopleReader(features, log, threads=reading, read_at_once=at_once)
    routes = recommendation_routes(
        Recommender(
            lambda: follower.snapshot,
            people,
            Beside(exposures, assignments, health, metrics),
            threads=shadowing,
            ask_apart=ask_apart,
        ),
        check_key=check_key,
        check_tester=requires(authenticator, Scope.EXPERIMENTS),
        time=time,
    )
    return assembled(
        FastAPI(
            title="Bespoke",
            summary="Recommendations, profiles and segments.",
            lifespan=lifespan_of(start=start, close=close),
        ),
        (
            routes,
            item_routes(
                Items(items, threads=reading, describe=lambda id: follower.snapshot.kit.item(id)),
                check_key=check_key,
                time=time,
            ),
            catalog_routes(LiveItems(control), check_key=requires(authenticator, Scope.CATALOG), time=time),
            explain_routes(replayer, check_key=check_profiles_key, threads=replaying),
            profile_routes(Profiles(features, people, threads=reading), check_key=check_profiles_key, time=time),
            # Before the segments by name: a segment may not be called as the stream is.
            stream_routes(feed, check_key=check_profiles_key, names=book.names),
            segment_routes(book, control, check_key=check_profiles_key),
            model_routes(lambda: follower.snapshot, lacks=lambda: follower.lacks, check_key=check_key),
            health_routes(lambda: recommender_readiness(follower, features, exposures, assignments)),
            metrics_routes(metrics, check_key=requires(authenticator, Scope.METRICS)),
        ),
        limits=limits,
        metrics=metrics,
        alive=lambda: follower.alive and exposures.alive and assignments.alive and health.alive,
    )
