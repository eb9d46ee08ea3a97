"""Whether a processor that is killed at random points loses or doubles anything.

Messages flow into the log while the processor is ended by SIGKILL again and again, each time once it has applied a
random number of messages, and started anew. Profiles and the lake are then held against an uninterrupted run.
"""

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from benchmarks.harness import Figures, main
from bespoke.clock import from_ms
from bespoke.parsing import encode_event, parse_event
from bespoke.profiles import to_row
from ingestion.applying import environment
from ingestion.mapping import load_mapping
from ingestion.messages import event_messages
from runtime.demo.journey import data_folder
from storage.eventlog import open_event_log
from storage.eventlog.base import EventLog, Message
from storage.lake import Lake
from storage.profiles import ProfileStore
from storage.settings import Settings

MESSAGES = 100_000
KILLS = 20
REPEATED_SHARE = 0.05
APPEND_AT_ONCE = 200
POLL_S = 0.002


def run() -> Figures:
    """Kill the processor ``KILLS`` times while real baskets flow."""
    return mismatches(with_repeats(journey_messages(MESSAGES), share=REPEATED_SHARE, seed=0), kills=KILLS, seed=0)


def with_repeats(messages: Sequence[Message], *, share: float, seed: int) -> list[Message]:
    """Return ``messages`` with some of them sent again, a while after they were sent first."""
    rng, sent = random.Random(seed), list(messages)
    for place in sorted(rng.sample(range(len(sent)), round(share * len(sent))), reverse=True):
        sent.insert(min(len(sent), place + rng.randrange(1, 2_000)), sent[place])
    return sent


def journey_messages(count: int) -> list[Message]:
    """Return the first baskets of The Complete Journey as messages."""
    part = load_mapping(Path("config/sources/complete_journey.toml")).events
    assert part is not None
    messages = []
    for raw in islice(event_messages(data_folder(), part, name="journey", since_ms=None, until_ms=None), count):
        event = parse_event(raw.message, received_at=from_ms(raw.at_ms), replay=True)
        messages.append(
            Message(
                key=event.person,
                message_id=event.message_id,
                received_ms=event.received_ms,
                payload=encode_event(event),
            )
        )
    return messages


def mismatches(messages: Sequence[Message], *, kills: int, seed: int, batch: int = 200) -> Figures:
    """Return how much differs between a run that is killed and one that is not; zeros are what must come out."""
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Settings(home=Path(folder) / "whole"), Settings(home=Path(folder) / "killed")
        flow(messages, whole, kill_at=[], batch=batch)
        done = flow(messages, killed, kill_at=kill_points(len(messages), kills, seed), batch=batch)
        wanted, found = Outcome(whole), Outcome(killed)
    return {
        "messages": len(messages),
        "kills": done,
        "profile_mismatches": _differing(wanted.profiles, found.profiles),
        "lost_events": (wanted.events - found.events).total(),
        "doubled_events": (found.events - wanted.events).total(),
        "state_mismatches": _differing(wanted.states, found.states),
    }


def kill_points(messages: int, kills: int, seed: int) -> list[int]:
    """Return after how many applied messages to kill, smallest first."""
    return sorted(random.Random(seed).sample(range(1, messages), kills))


def flow(messages: Sequence[Message], settings: Settings, *, kill_at: Sequence[int], batch: int) -> int:
    """Append ``messages`` while a processor applies them and is killed; return how many kills hit a running one."""
    settings.home.mkdir(parents=True)
    log, profiles = open_event_log(settings.log_path), ProfileStore(settings.profiles_url)
    feeding = threading.Thread(target=_feed, args=(log, messages))
    feeding.start()
    done = 0
    try:
        for point in kill_at:
            with _start(settings, batch) as process:
                while process.poll() is None and _applied(log.partitions, profiles) < point:
                    time.sleep(POLL_S)
                done += process.poll() is None
                process.kill()
        feeding.join()
        with _start(settings, batch) as process:
            process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the processor ended with status {process.returncode}")
    finally:
        feeding.join()
        log.close()
        profiles.close()
    return done


class Outcome:
    """What a run left behind, in a form that can be compared."""

    def __init__(self, settings: Settings) -> None:
        profiles = ProfileStore(settings.profiles_url)
        lake = Lake(settings.lake_dir)
        events = lake.events(columns=["message_id", "person"])
        self.events = Counter(events["message_id"].to_pylist())
        stored = profiles.load(set(events["person"].to_pylist()))
        self.profiles: dict[str, object] = {user: (to_row(one.profile), one.version) for user, one in stored.items()}
        states = lake.latest_states().drop_columns(["created_timestamp"]).to_pylist()
        self.states = {state["user_id"]: state for state in states}
        profiles.close()


def _feed(log: EventLog, messages: Sequence[Message]) -> None:
    for start in range(0, len(messages), APPEND_AT_ONCE):
        log.append(messages[start : start + APPEND_AT_ONCE])


def _start(settings: Settings, batch: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ingestion.worker", "--until-idle", "--batch", str(batch)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment(settings))


def _applied(partitions: int, profiles: ProfileStore) -> int:
    return sum(profiles.committed(partition) for partition in range(partitions))


def _differing(wanted: dict[str, object], found: dict[str, object]) -> int:
    return sum(wanted.get(key) != found.get(key) for key in wanted.keys() | found.keys())


if __name__ == "__main__":
    main("recovery", run, runs=1, about=(__doc__ or "").strip())
