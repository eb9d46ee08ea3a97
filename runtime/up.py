"""Everything on one machine: Ray, features, the processor, the HTTP services; and a clean end of it all."""

import io
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx

from bespoke.errors import BespokeError, ConfigError
from runtime.leftovers import MARK, end_leftovers, ingress_folder, require_free_ports
from runtime.progress import steps
from runtime.ray_local import logical_cpus, quiet_ray
from runtime.state import clear_state, write_state
from runtime.validate import start_problems
from serving.haproxy import https_of
from serving.ingress import ingress_env, make_ingress_folder
from serving.metrics import clear, metrics_folder
from storage.lock import OwnerLock
from storage.settings import Settings

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.2
WATCH_EVERY_S = 2.0
REPLICA_CPUS = 0.5
"""Logical CPUs that Ray sets aside for each replica; these come on top of what training needs."""

Say = Callable[[str], None]


class Installation:
    """Everything of one home on this machine, started in two steps so that jobs can use Ray before HTTP is up.

    Use as a context manager: whatever was started is stopped at the end, in the reverse order.
    """

    def __init__(self, settings: Settings, *, replicas: int = 1, say: Say = lambda _: None) -> None:
        self.settings = settings
        self._replicas = replicas
        self._say = say
        self._stack = ExitStack()
        self._processor: Any = None

    def __enter__(self) -> "Installation":
        problems = start_problems(self.settings.config_dir)
        if problems:
            raise ConfigError("\n".join(problems))
        with self._stack:
            self._stack.enter_context(OwnerLock(self.settings.home / "up.lock"))
            make_ingress_folder(self.settings.http_port, https=https_of(self.settings))
            self._stack.enter_context(OwnerLock(ingress_folder(self.settings) / "owner.lock"))
            # Holding both locks: nothing of a run that goes on can be meant.
            if ended := end_leftovers(self.settings):
                self._say(f"ended {ended} processes left by an earlier run")
            require_free_ports(self.settings)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C would leave behind what the first one asked to end.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            # Ray prints, of every clean end, that it would go on trying to shut down what is gone.
            with redirect_stdout(io.StringIO()):
                self._stack.close()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def start_ray(self) -> None:
        """Start Ray, with what Serve must find in the environment. Its ports ask for a token."""
        quiet_ray()
        # Serve reads these when it is imported, and its processes when they start.
        os.environ.update(ingress_env(self.settings.http_port))
        os.environ[MARK] = str(ingress_folder(self.settings))
        import ray

        self._say("starting Ray")
        self._stack.callback(end_leftovers, self.settings)
        self._stack.callback(ray.shutdown)
        ray.init(
            num_cpus=logical_cpus() + math.ceil(REPLICA_CPUS * (self._replicas + 1)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        self._stack.callback(clear_state, self.settings.home)
        address = ray.get_runtime_context().gcs_address
        write_state(self.settings.home, ray_address=address, http_port=self.settings.http_port)

    def start_services(self) -> None:
        """Start the processor and the HTTP services; return when both answer.

        Raises:
            BespokeError: one of them does not come up in time.
        """
        from ingestion.actor import start_processor
        from runtime.deploy import deploy
        from runtime.experiments import put_in_force
        from storage.features import apply_feature_repo

        self._say("registering features")
        apply_feature_repo(self.settings)
        put_in_force(self.settings, at=datetime.now(UTC))
        self._say("starting the processor and the HTTP services")
        self._processor = start_processor(self.settings)
        self._stack.callback(self._stop_processor)
        self._stack.callback(self._stop_serving)
        clear(metrics_folder(self.settings))
        deploy(self.settings, replicas=self._replicas)
        self._await_ready()

    def watch(self, stopped: threading.Event) -> None:
        """Say what is wrong, and when it is right again, until ``stopped``; have the guard look, and jobs done."""
        from runtime.experiments import declared_in
        from runtime.guard import Guard
        from runtime.job_loop import JobLoop
        from storage.control import ControlStore

        said: str | None = None
        guard = Guard(
            self._stack.enter_context(ControlStore(self.settings.control_url)), declared_in(self.settings).guard
        )
        self._stack.enter_context(JobLoop(self.settings, say=self._say))
        while not stopped.wait(WATCH_EVERY_S):
            for rolled_back in guard.look(datetime.now(UTC)):
                self._say(f"attention: rolled back {rolled_back.subject}: {rolled_back.said}")
            wrong = self._wrong()
            if wrong != said:
                self._say(f"attention: {wrong}" if wrong else "all is well again")
                said = wrong

    def _wrong(self) -> str | None:
        from ray.exceptions import RayError

        try:
            status = self.processor_status()
        except RayError as error:
            return f"the processor does not answer ({type(error).__name__}); Ray starts it again"
        if status["waits_for"]:
            return f"the processor waits: {status['waits_for']}"
        if status["features_behind"]:
            return f"online features are behind: {status['features_behind']}"
        return f"settings stay as they were: {status['config_problem']}" if status["config_problem"] else None

    def wait_until_applied(self) -> None:
        """Return when the processor has applied all that the log holds."""
        while not self.processor_status()["idle"]:
            time.sleep(POLL_S)

    def processor_status(self) -> dict[str, Any]:
        """Return the processor's offsets and state."""
        import ray

        return dict(ray.get(self._processor.status.remote()))

    @property
    def url(self) -> str:
        """Return where the services listen."""
        return f"http://{self.settings.http_host}:{self.settings.http_port}"

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        last = "no answer"
        while time.monotonic() < deadline:
            self.processor_status()
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=5.0)
                if answer.is_success:
                    return
                last = answer.text
            except httpx.TransportError as error:
                last = str(error)
            time.sleep(POLL_S)
        raise BespokeError(f"the services are not ready after {READY_TIMEOUT_S:.0f} s: {last}")

    def _stop_serving(self) -> None:
        from ray import serve

        self._say("stopping the HTTP services")
        serve.shutdown()  # type: ignore[no-untyped-call]

    def _stop_processor(self) -> None:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        self._say("stopping the processor; what is open is being delivered")
        try:
            ray.get(self._processor.stop.remote(), timeout=STOP_TIMEOUT_S)
        except (GetTimeoutError, RayActorError) as error:
            # Nothing is lost: the next start goes on from what is committed.
            self._say(f"the processor did not end by itself ({type(error).__name__}); the next start goes on")


def run_until_stopped(settings: Settings, *, replicas: int) -> None:
    """Start everything and serve until Ctrl-C or SIGTERM."""
    interrupt_on_sigterm()
    try:
        with steps() as say, Installation(settings, replicas=replicas, say=say) as installation:
            installation.start_ray()
            installation.start_services()
            serve_until_stopped(installation, say)
    except KeyboardInterrupt:
        return


def interrupt_on_sigterm() -> None:
    """Have SIGTERM end what runs as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def serve_until_stopped(installation: Installation, say: Say) -> None:
    """Say where things are, and watch them until Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    say_where(installation, say)
    installation.watch(stopped)


def say_where(installation: Installation, say: Say) -> None:
    """Say where to reach what runs."""
    say(f"recommendations       {installation.url}/api/v1/recommendations, explained at {installation.url}/docs")
    say(f"events                {installation.url}/collect/v1/, explained at {installation.url}/collect/docs")
    say("Ctrl-C stops everything")
