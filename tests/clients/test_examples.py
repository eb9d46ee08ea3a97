"""The examples for curl and Segment's SDKs, run as they are shipped against the real service over a socket."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bespoke.events import Event
from tests.clients.conftest import Service

CLIENTS = Path(__file__).parents[2] / "clients"
TIMEOUT_S = 60


def run(command: list[str], service: Service, *, cwd: Path | None = None) -> str:
    """Run an example; return what it says."""
    environment = {**os.environ, "BESPOKE_KEY": service.key, "BESPOKE_PERSON": "curl-person"}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def types_of(service: Service, library: str) -> Counter[str]:
    """Return how many events of each type one SDK has sent."""
    return Counter(event.type.value for event in service.stored() if _library(event) == library)


def _library(event: Event) -> str | None:
    library = event.context.get("library")
    return library.get("name") if isinstance(library, dict) else None


def test_curl_sends_an_event_and_gets_lists(service: Service) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    said = run(["sh", str(CLIENTS / "curl.sh"), service.url], service)
    assert said.count('"recommendationId"') == 3
    assert [event.name for event in service.stored() if event.user_id == "curl-person"] == ["Product Viewed"]


def test_segment_python_example_stores_everything(service: Service) -> None:
    assert run([sys.executable, str(CLIENTS / "segment_python.py"), service.url], service) == "stored\n"
    assert types_of(service, "analytics-python") == {"identify": 1, "track": 2, "page": 1}


@pytest.fixture(scope="session")
def node_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Node example with its packages from npm."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node") / "segment_node"
    shutil.copytree(CLIENTS / "segment_node", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        said = "npm ci took too long" if done is None else f"npm ci: {done.stderr[-500:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    return folder


def test_segment_node_example_stores_everything(service: Service, node_example: Path) -> None:
    assert run(["node", "send.mjs", service.url], service, cwd=node_example) == "stored\n"
    assert types_of(service, "@segment/analytics-node") == {
        "identify": 1,
        "track": 2,
        "page": 1,
        "screen": 1,
        "group": 1,
        "alias": 1,
    }
