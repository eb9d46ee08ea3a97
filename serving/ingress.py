"""What Serve's ingress wants to find in the environment before Ray starts. ``python -m serving.ingress`` prints it."""

import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bespoke.errors import Unavailable
from serving.haproxy import STARTER, Https, https_of, write_starter
from storage.settings import Settings

DEFAULT_HTTP_PORT = 8000

INGRESS_ENV: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # A request whose replica dies goes to another one. Events carry a messageId, so a repeat changes nothing. A
    # recommendation is a read, but for its exposure: a repeat without Idempotency-Key gets a recommendationId of its
    # own, and the log may hold an exposure that nobody saw. Only requests of up to 16 KB are repeated; larger ones get
    # a 500 and are sent again.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # How long a stopping replica stays reachable, and a replaced HAProxy process lives.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
    # How long a check may take once one has failed. Serve's 250 ms take a full process for a dead one; a dead one is
    # found by its refused connections anyway.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "1s",
    # Counts requests a second time, in Python, a third of a millisecond each. HAProxy's own metrics stay.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Ten times a second by default, which takes a twentieth of a core to see that nothing has changed.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    # Ray's default, 15, lets whatever else runs on the machine go first, training among it. Who answers comes first.
    "RAY_worker_niceness": "0",
    # One thread answers over HTTP and decides. With two, a finished answer waits for the interpreter while the next is
    # made, a body once more after its header. No more than haproxy_config.AT_WORK wait here for one another.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    # Stands in front of Serve's own code in every process: see serving.front.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serving.front:middlewares",
    # Serve's defaults are an hour and no limit. A request ends long before, by the edge's own timeout.
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "60",
}
"""Environment of every ingress."""


def ingress_env(http_port: int = DEFAULT_HTTP_PORT) -> dict[str, str]:
    """Return the environment of an ingress at ``http_port``, whose side ports and files are its own.

    It has to be set before ``ray.serve`` is imported and before Ray starts. Two installations on one machine run beside
    each other if their ports differ.
    """
    shift = http_port - DEFAULT_HTTP_PORT
    folder = _folder(http_port)
    return {
        **INGRESS_ENV,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(folder / STARTER),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_shifted(9101, shift)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_shifted(8404, shift)),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(_shifted(8500, shift)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def make_ingress_folder(http_port: int = DEFAULT_HTTP_PORT, *, https: Https | None = None) -> Path:
    """Make the folder of an ingress, open to this user only; return it. To be called before Ray starts.

    HAProxy obeys whoever can write to the admin socket in there.

    Args:
        http_port: where the ingress listens without TLS.
        https: where it listens with TLS too.

    Raises:
        Unavailable: the folder cannot be made, or is somebody else's.
        ConfigError: the certificate cannot be read.
    """
    folder = _folder(http_port)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Not stat: a link to a folder of this user is somebody else's doing too.
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise Unavailable(
                f"{folder} is not a folder of this user; remove it, or set TMPDIR to a folder of your own"
            )
        folder.chmod(0o700)
        write_starter(folder, http_port=http_port, https=https)
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror}; remove it, or set TMPDIR to a folder of your own") from error
    return folder


def _folder(http_port: int) -> Path:
    # Not under the home folder: the path of a Unix socket has at most 108 characters, and Ray adds 60 of its own.
    return Path(tempfile.gettempdir()) / f"bespoke-{os.getuid()}-{http_port}"


def _shifted(port: int, shift: int) -> int:
    """Move a side port along with the HTTP port, within the ports that a program may take.

    >>> _shifted(9101, 0), _shifted(9101, 10_000), _shifted(9101, 57_000)
    (9101, 19101, 1589)
    """
    lowest, count = 1_024, 64_512
    return (port + shift - lowest) % count + lowest


def main() -> None:
    """Make the folder and print the environment as shell commands: ``eval "$(python -m serving.ingress)"``.

    The port is the one argument; where TLS is to be spoken, the settings of the installation say.
    """
    http_port = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_HTTP_PORT
    make_ingress_folder(http_port, https=https_of(Settings()))
    for name, value in ingress_env(http_port).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
