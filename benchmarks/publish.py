"""Publication under SIGKILL: readers only ever see whole versions, and what was acknowledged stays.

A process publishes one version after another and is killed at a random moment, again and again; a reader checks every
version that it can see, also while publications go on.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.harness import main
from bespoke.errors import BespokeError
from bespoke.events import ItemId
from bespoke.models.bundle import Window, read_bundle
from bespoke.models.popularity import Popularity
from bespoke.models.verdict import Verdict
from bespoke.vocabulary import Vocabulary
from storage.bundles import BundleStore
from training.publish import About, publish

KILLS = 50
ITEMS = 200_000
KILLED_WITHIN_S = 0.6
NAME = Popularity.kind


def run() -> dict[str, float]:
    """Kill a publisher ``KILLS`` times."""
    with tempfile.TemporaryDirectory() as folder:
        root, moment, acknowledged, torn, whole = Path(folder), random.Random(7), set[str](), 0, set[str]()
        for _ in range(KILLS):
            acknowledged |= _publish_until_killed(root, moment.uniform(0.0, KILLED_WITHIN_S))
            for version in set(BundleStore(root).versions(NAME)) - whole:
                if _is_whole(root, version):
                    whole.add(version)
                else:
                    torn += 1
        lost = acknowledged - set(BundleStore(root).versions(NAME))
    return {"kills": KILLS, "versions": len(whole), "torn": torn, "lost": len(lost)}


def _publish_until_killed(root: Path, after_s: float) -> set[str]:
    """Start a publisher, kill it ``after_s`` after its first version, and return what it acknowledged."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.publish", str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = process.stdout.readline()
    until = time.monotonic() + after_s
    while time.monotonic() < until:
        # Reading goes on beside the publications.
        for version in BundleStore(root).versions(NAME)[-1:]:
            assert _is_whole(root, version), f"{version} was visible and torn"
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read()
    process.wait()
    return set(said.decode().split("\n")[:-1])


def _is_whole(root: Path, version: str) -> bool:
    try:
        read_bundle(BundleStore(root).path(NAME, version))
    except BespokeError:
        return False
    return True


def _publish_for_ever(root: Path) -> None:
    """Publish one version after another and print each once it is published."""
    ids, at = [ItemId(f"item-{n}") for n in range(ITEMS)], datetime(2026, 1, 1, tzinfo=UTC)
    about = About(Window(since=at, until=at), "", None, {})
    number = 0
    while True:
        number += 1
        model = Popularity(np.full(ITEMS, number, dtype=np.float32), vocabulary=Vocabulary(ids))
        verdict = Verdict(passed=True)
        reference = publish(
            model, about, BundleStore(root), metrics={}, measured=None, gate=verdict, parent=None, seed=0
        )
        print(reference.split("@")[1], flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        _publish_for_ever(Path(sys.argv[1]))
    main(
        "publish",
        run,
        runs=1,
        about=f"{KILLS} SIGKILLs of a publisher of bundles of {ITEMS:,} items, at random moments",
    )
