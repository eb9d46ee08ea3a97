"""What a killed run may leave behind: its HAProxy, which goes on holding the ports, found by its configuration file."""

import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from bespoke.errors import Unavailable
from serving.ingress import ingress_env
from storage.settings import Settings

END_TIMEOUT_S = 5.0


def ingress_folder(settings: Settings) -> Path:
    """Return where this installation's HAProxy keeps its files; they name it among all others."""
    return Path(ingress_env(settings.http_port)["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"]).parent


def end_leftovers(settings: Settings, *, say: Callable[[str], None]) -> None:
    """End HAProxy processes of this installation's ingress that outlived the run which started them.

    To be called by whoever holds the ingress's lock: then no other run can own them.
    """
    folder = ingress_folder(settings)
    left = [process for process in psutil.process_iter(["name", "cmdline"]) if _is_ingress(process, folder)]
    for process in left:
        say(f"ending HAProxy {process.pid}, left by an earlier run")
        process.terminate()
    _, alive = psutil.wait_procs(left, timeout=END_TIMEOUT_S)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=END_TIMEOUT_S)


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


def _is_ingress(process: psutil.Process, folder: Path) -> bool:
    """Tell by the arguments: Ray puts the configuration into a folder per node below the one that it was given."""
    arguments = process.info["cmdline"] or []
    return process.info["name"] == "haproxy" and any(one.startswith(f"{folder}/") for one in arguments)
