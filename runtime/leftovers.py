"""What a killed run may leave behind: HAProxy, which goes on holding the ports, and parts of Ray.

Every process that a run starts inherits a mark in its environment, and is known by it.
"""

import socket
from contextlib import suppress
from pathlib import Path

import psutil

from bespoke.errors import Unavailable
from serving.ingress import ingress_env
from storage.settings import Settings

END_TIMEOUT_S = 5.0
MARK = "BESPOKE_STARTED_FOR"
"""The environment variable that marks the processes of a run; its value is the run's ingress folder."""


def ingress_folder(settings: Settings) -> Path:
    """Return where this installation's HAProxy keeps its files."""
    return Path(ingress_env(settings.http_port)["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent


def end_leftovers(settings: Settings) -> int:
    """End the processes of this installation that outlived the run which started them; return how many there were.

    To be called by whoever holds the ingress's lock: then no other run can own them.
    """
    folder = str(ingress_folder(settings))
    left = [process for process in psutil.process_iter() if _mark(process) == folder]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=END_TIMEOUT_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=END_TIMEOUT_S)
    return len(left)


def require_free_ports(settings: Settings) -> None:
    """Check that the ports of the ingress are free.

    Raises:
        Unavailable: another program listens on one of them.
    """
    env = ingress_env(settings.http_port)
    for port in (
        settings.http_port,
        int(env["RAY_SERVE_HAPROXY_METRICS_PORT"]),
        int(env["RAY_SERVE_HAPROXY_STATS_PORT"]),
        *([settings.https_port] if settings.https_port is not None else []),
    ):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.http_host, port))
            except OSError as error:
                raise Unavailable(
                    f"port {port} on {settings.http_host} cannot be used: {error.strerror}; "
                    "end what listens there, or choose another port with --port"
                ) from error


def _mark(process: psutil.Process) -> str | None:
    """Return the mark that the process was started with; None where it has none or is somebody else's."""
    try:
        return process.environ().get(MARK)
    except psutil.Error:
        return None
