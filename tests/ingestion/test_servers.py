"""On servers the log becomes the same profiles as on files; a server that dies and comes back costs time only."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bespoke.clock import SystemClock
from bespoke.events import UserId
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from storage.eventlog import open_event_log
from storage.eventlog.base import EventLog
from storage.lake import Lake
from storage.profiles import ProfileStore, StoredProfile
from tests.support.messages import order, views
from tests.support.servers import fresh_schema, kafka_url, own_postgres, postgres_url

PEOPLE = [UserId(f"u{n}") for n in range(9)]
HISTORY = [(order if number % 3 else views)(user, number, f"i{number}") for number in range(8) for user in PEOPLE]


@contextmanager
def opened(home: Path, log_url: str, profiles_url: str) -> Iterator[tuple[EventLog, ProfileStore, Processor]]:
    with (
        closing(open_event_log(log_url, partitions=2)) as log,
        closing(ProfileStore(profiles_url, busy_timeout_s=2)) as profiles,
    ):
        writer = LakeWriter(Lake(home / "lake"), log, profiles)
        processor = Processor(log, profiles, writer, partitions=(0, 1), sink=None, clock=SystemClock(), batch=7)
        yield log, profiles, processor


def applied(log: EventLog, profiles: ProfileStore) -> bool:
    return all(profiles.committed(partition) == log.end(partition) for partition in range(2))


def people(home: Path, log_url: str, profiles_url: str) -> dict[UserId, StoredProfile]:
    """Apply the history, every message twice, and return what became of it."""
    with opened(home, log_url, profiles_url) as (log, profiles, processor):
        log.append(HISTORY + HISTORY)
        processor.run(until=lambda: applied(log, profiles))
        return profiles.load(PEOPLE)


def test_a_log_on_servers_becomes_the_same_profiles_as_one_on_files(
    tmp_path: Path, kafka_server: str, postgres_server: str
) -> None:
    on_files = people(tmp_path / "files", f"sqlite:///{tmp_path / 'log.db'}", f"sqlite:///{tmp_path / 'profiles.db'}")
    with fresh_schema(postgres_server) as url:
        on_servers = people(tmp_path / "servers", kafka_url(kafka_server, "same-profiles"), url)
    assert on_servers == on_files
    assert {person.profile.orders for person in on_servers.values()} == {5}


def test_the_processor_waits_for_a_profile_store_that_dies_and_then_counts_every_message_once(tmp_path: Path) -> None:
    with (
        own_postgres() as server,
        opened(tmp_path, f"sqlite:///{tmp_path / 'log.db'}", postgres_url(server)) as (log, profiles, processor),
    ):
        log.append(HISTORY[:36])
        processor.step()
        server.stop()
        done = threading.Event()
        running = threading.Thread(target=processor.run, args=(done.is_set,))
        running.start()
        log.append(HISTORY[36:])
        while processor.waits_for is None:
            threading.Event().wait(0.01)
        assert "check that the server runs" in processor.waits_for
        server.start()
        while not applied(log, profiles):
            threading.Event().wait(0.01)
        done.set()
        running.join()
        assert {person.profile.orders for person in profiles.load(PEOPLE).values()} == {5}
