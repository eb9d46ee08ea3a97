"""The whole loop in small, with the real parts: files, log, Feast, Ray, HTTP; killed once and restarted once."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import pytest

from storage.lake import Lake
from storage.settings import Settings

BESPOKE = Path(sys.executable).parent / "bespoke"
NOW = datetime.now(UTC)
PATIENCE_S = 120.0
POINTERS = {"blend": "champion", "buy_again": "challenger", "popularity": "popular"}
MAPPING = """
name = "shop"
[events]
event = "Order Completed"
user_id = "who"
timestamp = "at"
[events.product]
product_id = "what"
category = "aisle"
"""


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return what ``condition`` returns as soon as it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain: {what}")


class Shop:
    """An installation in a folder of its own, used through its command line and HTTP alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "var")
        self.times_up = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.env = {**os.environ, "BESPOKE_HOME": str(self.settings.home)}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30.0)

    def run(self, *arguments: str) -> Any:
        """Run a command with ``--json``; return what it printed."""
        done = subprocess.run([BESPOKE, *arguments, "--json"], env=self.env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return orjson.loads(done.stdout.splitlines()[-1])

    @contextmanager
    def up(self, *, until: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """Run `bespoke up` until the block ends; at SIGINT it must stop cleanly and leave no process."""
        with (self.folder / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [BESPOKE, "up", "--port", str(self.port)], env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(lambda: process.poll() is not None or self.says_ready(), "the services are ready")
            assert process.poll() is None, (self.folder / "up.log").read_text()
            self.times_up += 1
            yield
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(until)
            status = process.wait(PATIENCE_S)
            if until is signal.SIGINT:
                assert status == 0, (self.folder / "up.log").read_text()
                assert not psutil.wait_procs(family, timeout=10.0)[1]
        finally:
            process.kill()

    def says_ready(self) -> bool:
        """Tell by what it says: HTTP may still be answered by what a killed run left behind."""
        return (self.folder / "up.log").read_text().count("Ctrl-C stops everything") > self.times_up

    def buy(self, who: str, *items: str) -> str:
        properties = {"products": [{"product_id": item, "quantity": 1, "price": 1.0} for item in items]}
        at = datetime.now(UTC)
        body = {"messageId": f"{who}-{at.timestamp()}", "userId": who, "event": "Order Completed"}
        answer = self.client.post("/collect/v1/track", json={**body, "properties": properties})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def recommend(self, who: str, after: str | None = None) -> dict[str, Any]:
        answer = self.client.post("/api/v1/recommendations", json={"userId": who, "numResults": 3, "after": after})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def kill_processor(self) -> None:
        """End the process that holds the partitions, as the lock file names it."""
        holder = re.match(r"process (\d+)", (self.settings.home / "processor.lock").read_text())
        assert holder is not None
        os.kill(int(holder[1]), signal.SIGKILL)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two kinds of people: those who buy tea and those who buy nails. Trained, promoted, with a key."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    rows = [
        f"{kind}-{person},{kind}-{item},{kind},{(NOW - timedelta(days=1 + (person * 7 + item * 3) % 25)).isoformat()}"
        for kind in ("tea", "nail")
        for person in range(20)
        for item in range(12)
        if (person + item) % 3
    ]
    (made.folder / "orders.csv").write_text("\n".join(["who,what,aisle,at", *rows]))
    (made.folder / "shop.toml").write_text(MAPPING)
    taken = made.run("ingest", str(made.folder / "orders.csv"), "--mapping", str(made.folder / "shop.toml"))
    assert (taken["accepted"], taken["rejected"]) == (len(rows), 0)
    assert len(made.run("train", *POINTERS)["models"]) == len(POINTERS)
    for kind, pointer in POINTERS.items():
        assert made.run("models", "promote", kind, "--pointer", pointer)[pointer].startswith(f"{kind}@")
    secret = made.run("keys", "create", "test", "--scope", "ingest", "--scope", "recommend")["secret"]
    made.client.auth = httpx.BasicAuth(secret, "")
    yield made
    made.client.close()


def kinds(answer: dict[str, Any]) -> set[str]:
    return {item["itemId"].split("-")[0] for item in answer["items"]}


def test_the_loop(shop: Shop) -> None:
    with shop.up():
        assert kinds(shop.recommend("tea-1")) == {"tea"}

        first = shop.recommend("newcomer", after=shop.buy("newcomer", "nail-1", "nail-2"))
        assert first["reflects"] is True
        assert "nail" in kinds(first)

        shop.kill_processor()
        token = shop.buy("second", "tea-1", "tea-2")
        after_kill = wait_for(
            lambda: (answer := shop.recommend("second", after=token))["reflects"] and answer, "the processor is back"
        )
        assert "tea" in kinds(after_kill)

        newer = shop.run("train", "blend", "--promote", "champion")["models"][0]
        wait_for(lambda: newer in shop.client.get("/api/v1/models").text, "the newer model serves")

    with shop.up(until=signal.SIGKILL):
        assert "tea" in kinds(shop.recommend("second"))
        assert shop.recommend("second", after=token)["reflects"] is True
        last = shop.buy("third", "nail-1", "nail-2")

    with shop.up():
        third = wait_for(
            lambda: (answer := shop.recommend("third", after=last))["reflects"] and answer, "the last event is applied"
        )
        assert "nail" in kinds(third)

    events = Lake(shop.settings.lake_dir).events(columns=["message_id", "name", "person"]).to_pylist()
    bought = [event["person"] for event in events if event["name"] == "Order Completed"]
    assert bought.count("newcomer") == bought.count("second") == bought.count("third") == 1
    assert len({event["message_id"] for event in events}) == len(events)
    assert any(event["name"] == "Recommendation Served" for event in events)


def test_drift_is_reported_on_what_the_loop_left(shop: Shop) -> None:
    report = shop.run("monitor", "report")
    assert Path(report["html"]).is_file()
    assert report["columns"]
