"""The reports' pages, on this machine only."""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa

from monitoring.drift import drift_report
from storage.settings import Settings

SERVE = """
import sys
from monitoring.ui import serve_ui
from storage.settings import Settings

serve_ui(Settings(), port=int(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def projects_at(url: str, server: "subprocess.Popen[bytes]") -> list[str]:
    """Return the names that the pages list, as soon as they answer."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return [project["name"] for project in httpx.get(f"{url}/api/projects").json()]
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"no answer from {url}, exit code {server.poll()}")


def test_the_pages_list_the_reports_and_listen_on_loopback_only(tmp_path: Path) -> None:
    table = pa.table({"orders": np.arange(10.0)})
    reports_dir = Settings(home=tmp_path).reports_dir
    drift_report(table, table, subject="als@1", at=datetime(2026, 1, 1, tzinfo=UTC), reports_dir=reports_dir)
    port = free_port()
    environment = {**os.environ, "BESPOKE_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", SERVE, str(port)], env=environment) as server:
        try:
            assert projects_at(f"http://127.0.0.1:{port}", server) == ["Drift"]
            listening = [c.laddr.ip for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"]
            assert listening == ["127.0.0.1"]
        finally:
            server.terminate()
