"""How late time alone lets people leave a segment: its part of the benchmark of segments.

A processor runs on stores of its own. People come in at ``PEOPLE_PER_S`` and look at something once, so each leaves
the segment of those who looked within ``WINDOW_S`` at a moment of their own. Late is a ``Segment Left`` by as much as
its time is after the event's time and the window.
"""

import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.harness import Figures
from bespoke.clock import SECOND_MS
from bespoke.events import SEGMENT_LEFT, Event
from bespoke.parsing import encode_event, parse_event
from ingestion.worker import Worker
from storage.eventlog import EventLog, Message
from storage.settings import Settings

PEOPLE = 3_000
PEOPLE_PER_S = 200
WINDOW_S = 5
SEGMENT = f"""
[lookers]
meaning = "Looked at something in the last {WINDOW_S} seconds"
all = [{{ count = "Product Viewed", within = "{WINDOW_S} seconds", at_least = 1 }}]
"""
GIVE_UP_S = 60.0
POLL_S = 0.1


def timers() -> Figures:
    """Return the lateness of ``PEOPLE`` timers in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", config_dir=Path(folder) / "config").on_files()
        settings.config_dir.mkdir()
        (settings.config_dir / "segments.toml").write_text(SEGMENT)
        stop = threading.Event()
        with Worker(settings) as worker:
            running = threading.Thread(target=worker.processor.run, args=(stop.is_set,))
            running.start()
            try:
                due = _send(worker.log)
                late = _lateness(worker.log, due)
            finally:
                stop.set()
                running.join()
    return {
        "timer_p50_s": float(np.percentile(late, 50)),
        "timer_p99_s": float(np.percentile(late, 99)),
        "timers": len(late),
    }


def _send(log: EventLog) -> dict[str, int]:
    """Return when each person is due to leave."""
    due: dict[str, int] = {}
    started = time.perf_counter()
    for number in range(PEOPLE):
        at = datetime.now(UTC)
        message = {
            "type": "track",
            "event": "Product Viewed",
            "messageId": f"m-{number}",
            "userId": f"person-{number}",
            "properties": {"product_id": "tea"},
        }
        event = parse_event(message, received_at=at)
        log.append([Message(event.person, event.message_id, event.received_ms, encode_event(event))])
        due[event.person] = event.at_ms + WINDOW_S * SECOND_MS
        time.sleep(max(started + (number + 1) / PEOPLE_PER_S - time.perf_counter(), 0.0))
    return due


def _lateness(log: EventLog, due: dict[str, int]) -> list[float]:
    """Wait until everybody has left, and return by how many seconds after they were due."""
    late: dict[str, float] = {}
    offsets, give_up_at = dict.fromkeys(range(log.partitions), 0), time.monotonic() + GIVE_UP_S
    while len(late) < len(due):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"{len(due) - len(late)} people never left")
        for partition, offset in offsets.items():
            records = log.read(partition, offset=offset, limit=5_000)
            offsets[partition] = offset + len(records)
            for event in (Event.from_payload(record.payload) for record in records):
                if event.name == SEGMENT_LEFT:
                    late[event.person] = (event.at_ms - due[event.person]) / SECOND_MS
        time.sleep(POLL_S)
    return list(late.values())
