"""Reads in the thread of the event loop, and what they leave to other threads."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bespoke.errors import Unavailable
from bespoke.events import UserId
from bespoke.profiles import EMPTY
from bespoke.recommend import FEATURES_UNAVAILABLE
from serving.at_once import APART_S, SLOW_S, AtOnce
from serving.people import PeopleReader, PersonState
from storage.eventlog.sqlite import SqliteEventLog
from storage.features.online import OnlineProfile

ANNA = UserId("anna")
FOUND = {ANNA: OnlineProfile(EMPTY, version=7)}


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def after(self, seconds: float) -> int:
        """Stand for a read that takes so long."""
        self.now_s += seconds
        return 1


def test_reads_go_on_at_once_while_they_are_fast() -> None:
    clock = Clock()
    at_once = AtOnce(monotonic=clock)
    assert [at_once.read(lambda: clock.after(SLOW_S / 2)) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_slow_read_others_are_left_to_threads_for_a_while(fails: bool) -> None:
    clock = Clock()
    at_once = AtOnce(monotonic=clock)

    def slow() -> int:
        clock.after(SLOW_S * 2)
        if fails:
            raise Unavailable("gone")
        return 1

    if fails:
        with pytest.raises(Unavailable):
            at_once.read(slow)
    else:
        assert at_once.read(slow) == 1
    assert at_once.read(lambda: 1) is None
    clock.after(APART_S)
    assert at_once.read(lambda: 1) == 1


class Features:
    """Features that say in which thread they were read."""

    def __init__(self, *, prompt: bool = True, away: bool = False) -> None:
        self.prompt, self.away = prompt, away
        self.read_in: list[str] = []

    def read(self, user_ids: Sequence[UserId], *, service: str, at_ms: int) -> dict[UserId, OnlineProfile]:
        self.read_in.append(threading.current_thread().name.partition("_")[0])
        return FOUND

    def read_at_once(
        self, user_ids: Sequence[UserId], *, service: str, at_ms: int
    ) -> dict[UserId, OnlineProfile] | None:
        if self.away:
            raise Unavailable("gone")
        if not self.prompt:
            return None
        self.read_in.append("loop")
        return FOUND

    def ready(self) -> bool:
        return True


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    opened = SqliteEventLog(tmp_path / "log.db")
    yield opened
    opened.close()


def state_of(features: Features, log: SqliteEventLog, **options: Any) -> PersonState:
    with ThreadPoolExecutor(1, thread_name_prefix="read") as threads:
        reader = PeopleReader(features, log, threads=threads, **options)
        return asyncio.run(reader.read(ANNA, service="s", after=None, at_ms=0))


def test_a_person_is_read_in_the_loop_where_that_waits_for_nobody(log: SqliteEventLog) -> None:
    features = Features()
    assert state_of(features, log, read_at_once=features.read_at_once).version == 7
    assert features.read_in == ["loop"]


def test_a_person_is_read_in_a_thread_where_it_would_wait(log: SqliteEventLog) -> None:
    waits, remote = Features(prompt=False), Features()
    assert state_of(waits, log, read_at_once=waits.read_at_once).version == 7
    assert state_of(remote, log).version == 7
    assert waits.read_in == remote.read_in == ["read"]


def test_a_store_that_fails_at_once_degrades_the_answer(log: SqliteEventLog) -> None:
    features = Features(away=True)
    assert state_of(features, log, read_at_once=features.read_at_once) == PersonState(degraded=FEATURES_UNAVAILABLE)
    assert features.read_in == []
