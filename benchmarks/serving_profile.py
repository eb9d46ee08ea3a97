"""Where the time of one recommendation goes: the application in one process, without HTTP, for real households.

``python -m benchmarks.serving_profile`` prints the milliseconds of each stage, the wall and CPU time of a request, and
the functions that take most of it, all on one thread so that nothing is hidden.
"""

import argparse
import asyncio
import base64
import cProfile
import os
import pstats
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import orjson

from benchmarks.serving_home import Site, copied, default_home
from serving.applications import create_recommender
from serving.metrics import Metrics

REQUESTS = 1_000
WARM_UP = 300
ROWS = 45


class Stages(Metrics):
    """Keeps every time of every stage."""

    def __init__(self) -> None:
        super().__init__("recommender")
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def stage(self, name: str, seconds: float) -> None:
        """Note one."""
        self.seconds[name].append(seconds)
        super().stage(name, seconds)


class OneThread(asyncio.SelectorEventLoop):
    """A loop that does at once what it would hand to a thread."""

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


async def asked(app: Any, site: Site, person: str) -> bytes:
    """Ask the application for twenty items; return the body of its answer."""
    body = orjson.dumps({"userId": person, "numResults": 20})
    basic = b"Basic " + base64.b64encode(f"{site.secret}:".encode())
    headers = [
        (b"host", b"localhost"),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"authorization", basic),
        (b"x-bespoke-time", site.at.encode()),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/v1/recommendations",
        "raw_path": b"/api/v1/recommendations",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent
    return b"".join(message.get("body", b"") for message in sent[1:])


async def measured(site: Site, *, requests: int, profile: cProfile.Profile | None) -> None:
    """Ask for so many and print what it took."""
    stages = Stages()
    app = create_recommender(site.settings, metrics=stages)
    people = random.Random(0).choices(site.people, k=requests + WARM_UP)
    async with app.router.lifespan_context(app):
        for person in people[:WARM_UP]:
            await asked(app, site, person)
        stages.seconds.clear()
        times, cpu_s = [], time.process_time()
        if profile is not None:
            profile.enable()
        for person in people[WARM_UP:]:
            began_s = time.perf_counter()
            await asked(app, site, person)
            times.append(time.perf_counter() - began_s)
        if profile is not None:
            profile.disable()
        cpu_s = time.process_time() - cpu_s
    if profile is None:
        show(times, stages, cpu_ms=cpu_s / requests * 1_000)


def show(times: list[float], stages: Stages, *, cpu_ms: float) -> None:
    """Print the table of stages."""
    print(f"{'stage':<28}{'mean ms':>9}{'p50':>8}{'p99':>8}{'times':>8}")
    rows = {**stages.seconds, "a whole request": times}
    for name, seconds in rows.items():
        ms = np.array(seconds) * 1_000
        share = len(ms) / len(times)
        print(f"{name:<28}{ms.mean():>9.3f}{np.percentile(ms, 50):>8.3f}{np.percentile(ms, 99):>8.3f}{share:>8.2f}")
    print(f"CPU of the process per request: {cpu_ms:.2f} ms", flush=True)


def main() -> None:
    """Measure stages, then functions. Ray gives each replica one thread for BLAS; so does this."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "OMP_NUM_THREADS": "1"})
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_profile")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    with copied(default_home()) as site:
        print("as it is served, with its threads")
        asyncio.run(measured(site, requests=options.requests, profile=None))
        for loop in (None, cProfile.Profile(builtins=False)):
            with asyncio.Runner(loop_factory=OneThread) as runner:
                print("\non one thread" if loop is None else "\nby function")
                runner.run(measured(site, requests=options.requests, profile=loop))
    stats = pstats.Stats(loop)
    stats.strip_dirs().sort_stats("tottime").print_stats(ROWS)
    stats.sort_stats("cumulative").print_stats(ROWS * 2)


if __name__ == "__main__":
    main()
