"""Stores that are away, one at a time, under load: recommendations go on and say what they lack.

The online store is a Redis that is stopped, the serving state store a PostgreSQL that is stopped. The profile store
and the log, both SQLite files, are locked by another writer; the bundles' folder is renamed, and a version that it held
is promoted meanwhile. While the log is away events are sent too: what the collector acknowledges is in the log after.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import Figures
from benchmarks.serving_answers import Answers, Load, loading
from benchmarks.serving_home import KEY, copied
from benchmarks.serving_site import Running, started
from benchmarks.serving_speed import WARM_UP, Pace
from benchmarks.serving_swaps import client_of
from benchmarks.serving_versions import base_of, publish_good
from runtime.features import rebuild_online
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.settings import Settings
from tests.support.servers import Server, own_postgres, postgres_url, running_redis

PER_S = 50.0
EVENTS_PER_S = 20.0
AWAY_S = 60.0
AROUND_S = 3.0
"""Load before and after each outage."""
PAGE = 10_000

Outage = Callable[[], AbstractContextManager[None]]


def outages(home: Path, pace: Pace) -> Figures:
    """Take away one store after the other from one installation."""
    with running_redis() as redis, own_postgres() as postgres, copied(home) as site:
        stores = {"online_url": f"redis://{redis.address}", "serving_url": postgres_url(postgres)}
        settings = site.settings.model_copy(update=stores)
        rebuild_online(settings)
        with started(site, stores=stores) as found:
            found.warm_up(WARM_UP)
            each: dict[str, Outage] = {
                "online": lambda: stopped(redis),
                "serving_state": lambda: stopped(postgres),
                "profiles": lambda: locked(settings.profiles_url),
                "bundles": lambda: bundles_away(settings),
            }
            figures: dict[str, float] = {}
            for name, outage in each.items():
                figures |= away(found, name, outage, pace)
            return figures | log_away(found, settings, pace)


def away(found: Running, name: str, outage: Outage, pace: Pace) -> dict[str, float]:
    """Ask for recommendations while a store is away."""
    with loading(found.plan(per_s=PER_S)) as load:
        time.sleep(AROUND_S)
        began_s = time.monotonic()
        with outage():
            time.sleep(pace.seconds(AWAY_S))
            lacks = client_of(found).get("/readyz").json()["lacks"]
        ended_s = time.monotonic()
        time.sleep(AROUND_S)
        got = load.finish()
    print(f"  {name} away: degraded {got.degraded}, readiness lacks {lacks}", flush=True)
    return _figures(name, got, began_s, ended_s, said=bool(lacks))


def log_away(found: Running, settings: Settings, pace: Pace) -> dict[str, float]:
    """Ask and send events while the log cannot be written; then look for what was acknowledged."""
    events = found.plan(path="/collect/v1/track", per_s=EVENTS_PER_S, events=True, known_path=None)
    with loading(found.plan(per_s=PER_S)) as load, loading(events) as sender:
        time.sleep(AROUND_S)
        began_s = time.monotonic()
        with locked(settings.log_url):
            time.sleep(pace.seconds(AWAY_S))
        ended_s = time.monotonic()
        time.sleep(AROUND_S)
        got, sent = _both(load, sender)
    stored = stored_ids(settings)
    lost = set(sent.acknowledged) - stored
    print(f"  log away: events by status {sent.statuses()}, acknowledged {len(sent.acknowledged)}", flush=True)
    return {
        **_figures("log", got, began_s, ended_s, said=False),
        "log_events_sent": len(sent.status),
        "log_events_acknowledged": len(sent.acknowledged),
        "log_events_lost": len(lost),
        "log_events_without_retry_after": sent.without_retry_after,
    }


def _both(load: Load, sender: Load) -> tuple[Answers, Answers]:
    sent = sender.finish()
    return load.finish(), sent


def _figures(name: str, got: Answers, began_s: float, ended_s: float, *, said: bool) -> dict[str, float]:
    return {
        f"{name}_away_failed": got.failed,
        f"{name}_away_refused": got.refused,
        f"{name}_away_degraded": sum(got.degraded.values()) / len(got.status),
        f"{name}_away_said": float(said or bool(got.degraded)),
        f"{name}_away_p99_ms": got.percentile_ms(99, since_s=began_s, until_s=ended_s),
        f"{name}_back_p99_ms": got.percentile_ms(99, since_s=ended_s),
    }


def stored_ids(settings: Settings) -> set[str]:
    """Return the messageId of everything in the log that this load may have sent."""
    log, found = open_event_log(settings.log_url), set()
    for partition in range(log.partitions):
        offset = 0
        while records := log.read(partition, offset=offset, limit=PAGE):
            found |= {record.message_id for record in records}
            offset = records[-1].position.offset + 1
    log.close()
    return found


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Stop a server, and start it again."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a SQLite file's write lock."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30.0)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def bundles_away(settings: Settings) -> Iterator[None]:
    """Take the bundles' folder away, and promote a version that nobody has loaded."""
    folder, store = settings.bundles_dir, BundleStore(settings.bundles_dir)
    version, elsewhere = publish_good(store, base_of(store), seed=0), folder.with_name(f"{folder.name}-away")
    folder.rename(elsewhere)
    try:
        with ControlStore(settings.control_url) as control:
            control.set_pointer("champion", version, by=KEY, reason="while it is away", at=datetime.now(UTC))
        yield
    finally:
        elsewhere.rename(folder)
