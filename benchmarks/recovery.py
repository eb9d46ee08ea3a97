"""Whether processes that are killed at random moments lose or double anything that was acknowledged.

``PER_S`` events per second are posted over several connections; what is not acknowledged is sent again under its
messageId, some of it is given up, and some of what was acknowledged is sent again too. Meanwhile collector and
processor are ended by SIGKILL again and again, each once it is up and has done something, and started anew: half of
``KILLS`` with the log in SQLite, half with a broker of the run's own, whose clients both processes are. Some lives are
short, some as long as it takes to write lake files. Then everything is drained, and log, lake, profiles and segments
are held against what the sender knows; segments with windows of a minute come and go all the while.

taken_again: from the kill of a collector until an event that was sent after it is acknowledged.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures, main
from benchmarks.recovery_load import Load
from benchmarks.recovery_outcome import KEY, figures
from ingestion.applying import environment
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.profiles import ProfileStore
from storage.settings import Settings
from tests.support.servers import free_port, kafka_url, running_kafka

KILLS = 50
PER_S = 300
PEOPLE = 3_000
SHORT_S = 1.5
LAKE_S = (9.5, 11.0)
"""Processors write lake files when they are ten seconds old: some are killed about then."""
LAKE_SHARE = 0.25
POLL_S = 0.005
PATIENCE_S = 120.0
SEGMENTS = """
[carts]
meaning = "Has put something into the cart in the last minute"
all = [{ count = "Product Added", within = "1 minute", at_least = 1 }]

[lookers]
meaning = "Has looked at two things in the last minute and bought none"
all = [
  { count = "Product Viewed", within = "1 minute", at_least = 2 },
  { not = { count = "Order Completed", within = "1 minute", at_least = 1 } },
]
"""
COLLECTOR = """
import sys
import uvicorn
from serving.applications import create_collector
from storage.settings import Settings
uvicorn.run(create_collector(Settings()), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def run() -> Figures:
    """Kill with both logs; what must be zero is summed up over them."""
    with running_kafka() as broker, tempfile.TemporaryDirectory() as folder:
        logs = {"sqlite": None, "kafka": kafka_url(broker.address, "recovery")}
        each = {
            name: survived(Path(folder) / name, log_url, kills=KILLS // len(logs), seed=seed)
            for seed, (name, log_url) in enumerate(logs.items())
        }
    found = {f"{figure}@{name}": value for name, one in each.items() for figure, value in one.items()}
    sums = ("kills", "acknowledged_lost", "counted_twice", "state_mismatches", "transition_mismatches")
    return {name: sum(one[name] for one in each.values()) for name in sums} | found


def survived(
    home: Path,
    log_url: str | None,
    *,
    kills: int,
    seed: int,
    per_s: float = PER_S,
    people: int = PEOPLE,
    lake_share: float = LAKE_SHARE,
) -> dict[str, float]:
    """Run an installation in ``home``, kill its processes ``kills`` times, and return what came of it.

    Args:
        home: where the installation lives.
        log_url: its event log; None is the SQLite file.
        kills: how many, of the processor and the collector in turn.
        seed: of what is sent and when is killed.
        per_s: events per second.
        people: whose events they are.
        lake_share: processors that live until they write lake files.
    """
    settings, secret = prepared(home, log_url)
    port = free_port()
    processor = Victim(["-m", "ingestion.worker", "--until-idle"], settings)
    collector = Victim(["-c", COLLECTOR, str(port)], settings)
    again_s: list[float] = []
    with (
        collector.running(),
        processor.running(),
        Load(f"http://127.0.0.1:{port}", secret, per_s=per_s, people=people, seed=seed) as load,
        ThreadPoolExecutor(2) as supervisors,
    ):
        rng, began_s = random.Random(seed), time.monotonic()
        lives = [lifetime(rng, lake_share=lake_share) for _ in range(kills - kills // 2)]
        with committing(settings) as committed:
            killing = [
                supervisors.submit(kill_processor, processor, lives, committed),
                supervisors.submit(kill_collector, collector, kills // 2, rng, load, again_s),
            ]
            for one in killing:
                one.result()
        ledger, sent_s = load.finish(), time.monotonic() - began_s
        processor.drain()
    return {
        "kills": kills,
        "messages": len(ledger.sent),
        "messages_per_s": len(ledger.sent) / sent_s,
        "sent_again": ledger.repeated,
        "requests_failed": ledger.failed,
        "taken_again_p50_s": float(np.median(again_s)),
        "taken_again_max_s": max(again_s),
        **figures(settings, ledger),
    }


def prepared(home: Path, log_url: str | None) -> tuple[Settings, str]:
    """Return the settings of a new installation with two segments, and the secret of a key for its collector."""
    config = home / "config"
    config.mkdir(parents=True)
    (config / "segments.toml").write_text(SEGMENTS)
    settings = Settings(home=home / "var", config_dir=config)
    if log_url is not None:
        settings = settings.model_copy(update={"log_url": log_url})
    settings.home.mkdir()
    open_event_log(settings.log_url).close()
    with ControlStore(settings.control_url) as control:
        _, secret = control.create_key(KEY, ["ingest"], datetime.now(UTC))
    return settings, secret


def lifetime(rng: random.Random, *, lake_share: float) -> float:
    """Return how long a process may go on once it has done something, in seconds."""
    return rng.uniform(*LAKE_S) if rng.random() < lake_share else rng.uniform(0.0, SHORT_S)


class Victim:
    """A process that is killed and started again."""

    def __init__(self, arguments: list[str], settings: Settings) -> None:
        self._command = [sys.executable, *arguments]
        self._environment = environment(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, and leave none of it behind."""
        self.start()
        try:
            yield
        finally:
            self.kill()

    def start(self) -> None:
        """Start it, without waiting until it is up."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=self._environment)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None and self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds.

        Raises:
            RuntimeError: the process ended by itself, or it never holds.
        """
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            self.live_on(POLL_S)
            if time.monotonic() > give_up_s:
                raise RuntimeError(f"{self._command[1:3]} did nothing for {PATIENCE_S:.0f} s")

    def live_on(self, seconds: float) -> None:
        """Let it go on for a while.

        Raises:
            RuntimeError: the process ended by itself.
        """
        assert self._process is not None
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise RuntimeError(f"{self._command[1:3]} ended by itself with status {status}")

    def drain(self) -> None:
        """Have a processor apply all that is in the log, and end."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        if status := self._process.wait(PATIENCE_S):
            raise RuntimeError(f"{self._command[1:3]} ended with status {status}")


@contextmanager
def committing(settings: Settings) -> Iterator[Callable[[], int]]:
    """Give what tells how many messages are applied."""
    log, profiles = open_event_log(settings.log_url), ProfileStore(settings.profiles_url)
    partitions = range(log.partitions)
    log.close()
    yield lambda: sum(profiles.committed(partition) for partition in partitions)
    profiles.close()


def kill_processor(processor: Victim, lives_s: list[float], committed: Callable[[], int]) -> None:
    """Kill the processor once for each of ``lives_s``, so long after it has applied its first messages."""
    before = committed()
    for life_s in lives_s:
        processor.until(partial(_moved, committed, before))
        processor.live_on(life_s)
        processor.kill()
        before = committed()
        processor.start()


def _moved(committed: Callable[[], int], before: int) -> bool:
    return committed() > before


def kill_collector(collector: Victim, kills: int, rng: random.Random, load: Load, again_s: list[float]) -> None:
    """Kill the collector so often, and note after how many seconds events were taken again."""
    collector.until(partial(load.took_since, 0.0))
    for _ in range(kills):
        collector.live_on(rng.uniform(0.0, SHORT_S))
        collector.kill()
        killed_s = time.monotonic()
        collector.start()
        collector.until(partial(load.took_since, killed_s))
        again_s.append(time.monotonic() - killed_s)


if __name__ == "__main__":
    main("recovery", run, runs=1, about=(__doc__ or "").strip())
