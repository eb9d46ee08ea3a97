"""Everything on one machine: Ray, features, the processor, the HTTP services; and a clean end of it all."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx

from bespoke.errors import BespokeError, ConfigError
from runtime.leftovers import end_leftovers, require_free_ports
from runtime.progress import steps
from runtime.ray_local import logical_cpus, quiet_ray
from runtime.state import clear_state, write_state
from runtime.validate import validate_config
from serving.ingress import ingress_env
from storage.lock import OwnerLock
from storage.settings import Settings

READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.2

Say = Callable[[str], None]


class Installation:
    """Everything of one home on this machine, started in two steps so that jobs can use Ray before HTTP is up.

    Use as a context manager: whatever was started is stopped at the end, in the reverse order.
    """

    def __init__(self, settings: Settings, *, replicas: int = 1, say: Say = lambda _: None) -> None:
        self.settings = settings
        self._replicas = replicas
        self._say = say
        self._lock = OwnerLock(settings.home / "up.lock")
        self._processor: Any = None
        self._serving = False

    def __enter__(self) -> "Installation":
        problems = validate_config(self.settings.config_dir)
        if problems:
            raise ConfigError("\n".join(problems))
        self.settings.home.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stop()
        finally:
            self._lock.release()

    def check_ports(self) -> None:
        """End what a killed run left behind, and make sure that the ports are free.

        Raises:
            Unavailable: another program listens on one of them.
        """
        end_leftovers(self.settings, say=self._say)
        require_free_ports(self.settings)

    def start_ray(self) -> None:
        """Start Ray on this machine, with what Serve must find in the environment."""
        self.check_ports()
        quiet_ray()
        # Serve reads these when it is imported, and its processes when they start.
        os.environ.update(ingress_env(self.settings.http_port))
        import ray

        self._say("starting Ray")
        ray.init(num_cpus=logical_cpus(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        write_state(
            self.settings.home, ray_address=ray.get_runtime_context().gcs_address, http_port=self.settings.http_port
        )

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
        self._serving = True
        deploy(self.settings, replicas=self._replicas)
        self._await_ready()

    def wait_until_applied(self) -> None:
        """Return when the processor has applied and delivered all that the log holds."""
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

    def _stop(self) -> None:
        import ray

        if not ray.is_initialized():
            return
        if self._serving:
            from ray import serve

            self._say("stopping the HTTP services")
            serve.shutdown()  # type: ignore[no-untyped-call]
        if self._processor is not None:
            self._say("stopping the processor; what is open is being delivered")
            ray.get(self._processor.stop.remote(), timeout=STOP_TIMEOUT_S)
        ray.shutdown()
        end_leftovers(self.settings, say=self._say)
        clear_state(self.settings.home)


def run_until_stopped(settings: Settings, *, replicas: int) -> None:
    """Start everything and serve until Ctrl-C or SIGTERM."""
    stopped = stop_event()
    with steps() as say, Installation(settings, replicas=replicas, say=say) as installation:
        installation.start_ray()
        installation.start_services()
        say_where(installation, say)
        stopped.wait()
        say("stopping")


def stop_event() -> threading.Event:
    """Return an event that Ctrl-C and SIGTERM set, instead of what they do else."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


def say_where(installation: Installation, say: Say) -> None:
    """Say where to reach what runs."""
    say(f"API and its pages     {installation.url}/docs")
    say(f"events come in at     {installation.url}/collect/v1/")
    say("Ctrl-C stops everything")
