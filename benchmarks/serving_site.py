"""A whole installation in a process of its own, as the serving benchmarks start it, watch it and end it.

``python -m benchmarks.serving_site JSON`` brings it up, says ``ready`` and stays until its input is closed; a line
``replicas`` asks how many recommender replicas the controller counts as running.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.serving_answers import Answers, answers
from benchmarks.serving_home import Site, copied, is_pushed, mark_pushed, site_settings
from benchmarks.serving_load import Plan
from serving.ingress import ingress_env

CONSTANT = "/constant"
REPLICA = "ServeReplica:recommender"
COLLECTOR_REPLICA = "ServeReplica:collector"
CONSTANT_REPLICA = "ServeReplica:constant"
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.05
PLACES = 200
"""Households at a time that meet the experiment while an installation is prepared."""


@dataclass(frozen=True, slots=True)
class Running:
    """An installation that runs."""

    site: Site
    port: int
    process: "subprocess.Popen[bytes]"
    known_path: Path
    people_path: Path
    replica_count: int

    def plan(self, **changes: Any) -> Plan:
        """Return a plan for recommendations to households, with changes."""
        asked = {
            "host": "127.0.0.1",
            "port": self.port,
            "secret": self.site.secret,
            "headers": {"x-bespoke-time": self.site.at},
            "people_path": str(self.people_path),
            "known_path": str(self.known_path),
        }
        return Plan(**{**asked, **changes})

    def constant_plan(self, **changes: Any) -> Plan:
        """Return a plan for the constant route."""
        return Plan(host="127.0.0.1", port=self.port, path=f"{CONSTANT}/", method="GET", **changes)

    def warm_up(self, requests: int) -> Answers:
        """Ask so often with four clients, and forget about it."""
        return answers(self.plan(clients=4, requests=requests, seed=99))

    def replicas(self, name: str = REPLICA) -> list[psutil.Process]:
        """Return the processes whose title names a replica."""
        return [process for process in _children(self.process.pid) if name in _title(process)]

    def haproxies(self) -> list[psutil.Process]:
        """Return the processes of the ingress."""
        found = []
        for process in _children(self.process.pid):
            with suppress(psutil.Error):
                if process.name() == "haproxy" or "ProxyActor" in _title(process):
                    found.append(process)
        return found

    def counted(self) -> int:
        """Return how many replicas of the recommender run, as the controller says."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(b"replicas\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def await_replicas(self, count: int, *, besides: frozenset[int] = frozenset(), timeout_s: float = 180.0) -> float:
        """Return the seconds until so many replicas run that are none of ``besides``.

        Raises:
            TimeoutError: they do not come.
        """
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            alive = [process.pid for process in self.replicas() if process.pid not in besides]
            if len(alive) == count and self.counted() == count:
                return time.monotonic() - began_s
            time.sleep(POLL_S)
        raise TimeoutError(f"{count} replicas do not run after {timeout_s:.0f} s")


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used so far, of all their threads."""
    times = [process.cpu_times() for process in processes if process.is_running()]
    return sum(time.user + time.system for time in times)


@contextmanager
def running(home: Path, **how: Any) -> Iterator[Running]:
    """Run a copy of the installation at ``home`` as :func:`started` does; nothing of it is left afterwards."""
    with copied(home) as site, started(site, **how) as found:
        yield found


def push(home: Path) -> None:
    """Bring profiles online and have everybody meet the experiment, once for every later copy."""
    if is_pushed(home):
        return
    from benchmarks.serving_home import read_site

    with started(read_site(home)) as found:
        for number in range(0, len(found.site.people), PLACES):
            some = found.people_path.with_name("some.json")
            some.write_bytes(orjson.dumps(found.site.people[number : number + PLACES]))
            answers(found.plan(people_path=str(some), clients=4, requests=2 * PLACES, seed=number))
    mark_pushed(home)


@contextmanager
def started(
    site: Site, *, replicas: int = 1, haproxy: bool = True, constant: bool = False, stores: Mapping[str, str] = {}
) -> Iterator[Running]:
    """Run an installation where it lies.

    Args:
        site: a prepared installation.
        replicas: of the recommender.
        haproxy: whether HAProxy is the ingress; Serve's default proxy otherwise.
        constant: whether there is a constant route besides.
        stores: addresses of stores that are not files, by setting.
    """
    port, home = _free_port(), site.settings.home.parent
    asked = {
        "home": str(home),
        "port": port,
        "replicas": replicas,
        "haproxy": haproxy,
        "constant": constant,
        "stores": dict(stores),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving_site", orjson.dumps(asked).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if (said := process.stdout.readline()) != b"ready\n":
            raise RuntimeError(f"the installation does not come up: {said!r}, status {process.wait(STOP_TIMEOUT_S)}")
        known = home / "known.json"
        known.write_bytes(orjson.dumps(_known(site)))
        yield Running(site, port, process, known, home / "people.json", replicas)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Have it stop cleanly; where it does not, end it and all that it started."""
    children = list(_children(process.pid))
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)


def _known(site: Site) -> list[str]:
    """Return every item that a model may name."""
    from bespoke.models.bundle import read_bundle
    from storage.bundles import BundleStore
    from storage.control import ControlStore

    store = BundleStore(site.settings.bundles_dir)
    with ControlStore(site.settings.control_url) as control:
        references = set(control.pointers().values())
    return sorted({id for one in references for id in read_bundle(store.path(*one.split("@", 1))).model.vocabulary.ids})


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _free_port() -> int:
    """Return a port whose side ports are free too, most likely; where they are not, the start says so."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Run one installation until the input is closed."""
    asked = orjson.loads(sys.argv[1])
    # Ray says things on the output too.
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import runtime.up

    if not asked["haproxy"]:
        # No setting turns HAProxy off: it is part of what `bespoke up` is.
        setattr(runtime.up, "ingress_env", lambda port: _default_proxy(ingress_env(port)))  # noqa: B010
    settings = site_settings(Path(asked["home"]), http_port=asked["port"]).model_copy(update=asked["stores"])
    with runtime.up.Installation(settings, replicas=asked["replicas"]) as installation:
        installation.start_ray()
        installation.start_services()
        if asked["constant"]:
            _serve_constant()
        _await(lambda: _is_applied(installation.processor_status()))
        print("ready", file=said, flush=True)
        for _ in sys.stdin:
            print(_running_replicas(), file=said, flush=True)


def _default_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if "HAPROXY" not in name and "HA_PROXY" not in name}


def _is_applied(status: Mapping[str, Any]) -> bool:
    return bool(status["idle"] and not status["features_behind"])


def _await(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("what is in the log was not applied in time")
        time.sleep(POLL_S)


def _running_replicas() -> int:
    from ray import serve

    deployment = serve.status().applications["recommender"].deployments["recommender"]
    return sum(count for state, count in deployment.replica_states.items() if state == "RUNNING")


def _serve_constant() -> None:
    """Put a constant route beside the applications, on the same ingress."""
    from fastapi import FastAPI
    from ray import serve
    from ray.serve.schema import LoggingConfig

    app = FastAPI()

    @app.get("/")
    async def constant() -> dict[str, bool]:
        return {"ok": True}

    deployment = serve.deployment(
        name="constant",
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=256,
        logging_config=LoggingConfig(enable_access_log=False),
    )(serve.ingress(app)(type("Constant", (), {})))
    serve.run(deployment.bind(), name="constant", route_prefix=CONSTANT)


if __name__ == "__main__":
    main()
