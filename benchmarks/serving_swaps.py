"""Versions that change under load: a hundred good ones in turn, and bad ones that must never answer."""

import time
from pathlib import Path

import httpx

from benchmarks.harness import Figures
from benchmarks.serving_answers import loading
from benchmarks.serving_home import KEY
from benchmarks.serving_site import Running, running
from benchmarks.serving_speed import WARM_UP, Pace
from benchmarks.serving_versions import base_of, publish_bad, publish_good
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings
from training.registry import promote

SWAPS = 100
PER_S = 100.0
QUIET_S = 20.0
"""So long without a swap, before them: what p99 during swaps is held against."""
BAD = 20
POLL_S = 0.02
LOOKS = 3
"""Times the number of replicas: so many answers in a row have to agree, where there are several."""
PATIENCE_S = 60.0


def swaps(home: Path, pace: Pace) -> Figures:
    """Promote one new version after the other, each once the one before answers."""
    with running(home, replicas=pace.replicas) as found:
        settings, store = found.site.settings, BundleStore(found.site.settings.bundles_dir)
        base = base_of(store)
        versions = [publish_good(store, base, seed=seed) for seed in range(pace.count(SWAPS, least=3))]
        found.warm_up(WARM_UP)
        with loading(found.plan(per_s=PER_S)) as load:
            quiet_s = time.monotonic()
            time.sleep(max(pace.seconds(QUIET_S), 5.0))
            began_s, took_s = time.monotonic(), []
            for version in versions:
                took_s.append(swap(found, settings, version))
            ended_s = time.monotonic()
            got = load.finish()
        quiet_ms = got.percentile_ms(99, since_s=quiet_s, until_s=began_s)
        swap_ms = got.percentile_ms(99, since_s=began_s, until_s=ended_s)
        return {
            "swaps": len(versions),
            "swap_failed": got.failed,
            "swap_refused": got.refused,
            "mixed": got.mixed,
            "p99_ratio": swap_ms / quiet_ms,
            "swap_p99_ms": swap_ms,
            "quiet_p99_ms": quiet_ms,
            "swap_max_s": max(took_s),
            "swap_versions_seen": sum(name.startswith("als@") for name in got.versions),
            "swap_marked": got.marked / len(got.status),
            "swap_degraded": sum(got.degraded.values()),
        }


def swap(found: Running, settings: Settings, version: str) -> float:
    """Promote a version; return the seconds until it answers, whichever replica is asked.

    Raises:
        TimeoutError: it never does.
    """
    began_s = time.monotonic()
    promote(settings, version, pointer="champion", by=KEY, reason="swap")
    agreeing, wanted = 0, 1 if found.replica_count == 1 else LOOKS * found.replica_count
    with client_of(found) as client:
        while agreeing < wanted:
            agreeing = agreeing + 1 if champion(client)["active"] == version else 0
            if time.monotonic() - began_s > PATIENCE_S:
                raise TimeoutError(f"{version} does not answer after {PATIENCE_S:.0f} s")
            if agreeing < wanted:
                time.sleep(POLL_S)
    return time.monotonic() - began_s


def client_of(found: Running) -> httpx.Client:
    """Return a client of an installation's routes."""
    return httpx.Client(base_url=f"http://127.0.0.1:{found.port}", auth=(found.site.secret, ""), timeout=30.0)


def champion(client: httpx.Client) -> dict[str, str | None]:
    """Return what the replica that answers says of the champion."""
    # Beside the load there may be no room for one request more.
    while (answer := client.get("/api/v1/models")).status_code == 503:
        time.sleep(POLL_S)
    answer.raise_for_status()
    (found,) = (model for model in answer.json()["models"] if model["pointer"] == "champion")
    return dict(found)


def bad_bundles(home: Path, pace: Pace) -> Figures:
    """Promote bad versions; each has to be refused, while the old one goes on answering."""
    with running(home, replicas=pace.replicas) as found:
        settings, store = found.site.settings, BundleStore(found.site.settings.bundles_dir)
        base = base_of(store)
        good = f"{base.manifest.name}@{base.manifest.version}"
        versions = [publish_bad(store, base, number=number) for number in range(pace.count(BAD, least=5))]
        found.warm_up(WARM_UP)
        with loading(found.plan(per_s=PER_S)) as load:
            stayed = [refused(found, settings, version, good) for version in versions]
            swap(found, settings, good)
            got = load.finish()
        served_bad = sum(count for name, count in got.versions.items() if name in versions)
        with ControlStore(settings.control_url) as control:
            trail = control.audit_trail(subject="pointer:champion", limit=10 * len(versions))
        return {
            "bad_bundles": len(versions),
            "bad_failed": got.failed,
            "bad_refused_requests": got.refused,
            "bad_kept_old": sum(stayed),
            "bad_served": served_bad,
            "bad_alerts": sum(entry.action == "model.refused" for entry in trail),
            "bad_p99_ms": got.percentile_ms(99),
        }


def refused(found: Running, settings: Settings, version: str, good: str) -> bool:
    """Promote a bad version; return whether it was looked at and the good one stays.

    Raises:
        TimeoutError: nobody looks at it.
    """
    promote(settings, version, pointer="champion", by=KEY, reason="a bad one", force=True)
    began_s = time.monotonic()
    with client_of(found) as client:
        while (about := champion(client))["wanted"] != version:
            if time.monotonic() - began_s > PATIENCE_S:
                raise TimeoutError(f"{version} is not looked at after {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
    return about["active"] == good
