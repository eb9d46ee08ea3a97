"""What requests remember between replicas, and how they go on while the store is away."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bespoke.errors import Unavailable
from bespoke.experiments import Assignment, Kept, Traffic, parse_experiment, unit_ids
from bespoke.experiments.state import ExperimentState
from serving.assignments import ASSIGNMENTS_UNAVAILABLE, FRESH_S, Assignments, Known
from storage.serving_state import Held, ServingState, Shown

KEPT = {("hero:s", "u1"): Kept("new", 1, 5)}
HERO = parse_experiment(
    "hero", {"salt": "s", "variants": [{"name": "old", "share": 0.5}, {"name": "new", "share": 0.5}]}
)


def assigned(unit: str, variant: str = "new") -> Assignment:
    return Assignment("hero", variant, unit, 1, 5, "hero:s", new=True)


class Store(ServingState):
    """A store that counts how often it is read, and can be away."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reads, self.away, self.tried = 0, False, threading.Semaphore(0)

    def read(self, units: Sequence[str], **asked: Any) -> Held:
        self.reads += 1
        if self.away:
            raise Unavailable("gone")
        return super().read(units, **asked)

    def read_at_once(self, units: Sequence[str], **asked: Any) -> Held | None:
        self.reads += 1
        if self.away:
            raise Unavailable("gone")
        return super().read_at_once(units, **asked)

    def write(self, **batch: Any) -> None:
        self.tried.release()
        if self.away:
            raise Unavailable("gone")
        super().write(**batch)


Hold = Callable[..., Assignments]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/serving.db") as opened:
        yield opened


@pytest.fixture
def hold(store: Store) -> Iterator[Hold]:
    """Return what opens a replica's hold on the store; it writes only when it is closed, unless told otherwise."""
    held: list[Assignments] = []

    def make(**options: Any) -> Assignments:
        held.append(Assignments(lambda: store, **{"interval_s": 60, "read_timeout_s": 30} | options))
        held[-1].start()
        return held[-1]

    yield make
    for one in held:
        one.close()


def read(assignments: Assignments, *units: str, **asked: Any) -> Known:
    return asyncio.run(assignments.read(units, **asked))


def test_what_one_replica_stored_another_one_reads(hold: Hold) -> None:
    first = hold()
    first.put([assigned("u1")], Shown("r1", "u1", 10, ("a",)))
    first.close()
    known = read(hold(), "u1", "anonymous:a1", shown=True)
    assert known == Known(Held(KEPT, {"a": 1}))
    assert (first.counts.written, first.counts.waiting) == (2, 0)


def test_units_that_came_lately_are_known_without_the_store(hold: Hold, store: Store) -> None:
    assignments = hold()
    assignments.put([assigned("u1")])
    assert read(assignments, "u1").held.assignments == KEPT
    assert store.reads == 0
    for _ in range(3):
        assert read(assignments, "u2") == Known()
    assert store.reads == 1


def test_what_is_stored_is_believed_for_longer_than_it_may_lead_to_something_new(
    hold: Hold, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assignments = hold()
    assignments.put([assigned("u1")])
    later = time.monotonic() + FRESH_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    known = read(assignments, "u1")
    assert (known.held.assignments, known.fresh, store.reads) == (KEPT, False, 0)
    assert read(assignments, "u1", fresh=True).fresh
    assert store.reads == 1
    assert read(assignments, "u2").fresh


def test_how_often_items_were_shown_is_always_read(hold: Hold, store: Store) -> None:
    assignments = hold()
    for _ in range(3):
        read(assignments, "u1", shown=True)
    assert store.reads == 3


def test_units_past_the_capacity_are_read_again(hold: Hold, store: Store) -> None:
    assignments = hold(recent_units=2)
    for unit in ("u1", "u2", "u3", "u3", "u1"):
        read(assignments, unit)
    assert store.reads == 4


def test_while_the_store_is_away_the_hash_decides_and_the_answer_says_so(hold: Hold, store: Store) -> None:
    assignments = hold()
    store.away = True
    known = read(assignments, "u1")
    assert known == Known(degraded=ASSIGNMENTS_UNAVAILABLE)
    state = ExperimentState.begin(HERO, at_ms=0, by="ada")
    placed = Traffic.of({"hero": state}).place(("u1", None), at_ms=0, stored=known.held.assignments)
    assert placed.new_assignments
    assignments.put(placed.new_assignments)
    assert read(assignments, *unit_ids("u1", None)).degraded == ASSIGNMENTS_UNAVAILABLE
    assert store.reads == 1
    assert not assignments.available


def test_what_was_known_before_holds_while_the_store_is_away(hold: Hold, store: Store) -> None:
    assignments = hold()
    assignments.put([assigned("u1")])
    store.away = True
    known = read(assignments, "u1", shown=True)
    assert known == Known(Held(KEPT), ASSIGNMENTS_UNAVAILABLE)


def test_a_store_that_was_away_gets_everything_when_it_is_back(hold: Hold, store: Store) -> None:
    store.away = True
    assignments = hold(interval_s=0.001)
    for n in range(3):
        assignments.put([assigned(f"u{n}")])
        assert store.tried.acquire(timeout=10)
    assert assignments.alive
    store.away = False
    assignments.close()
    assert (assignments.counts.written, assignments.counts.dropped) == (3, 0)


def test_what_can_never_be_written_holds_up_nothing(hold: Hold, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    assignments = hold()

    def broken(**_: Any) -> None:
        raise ValueError("broken")

    assignments.put([assigned("u1")])
    with monkeypatch.context() as once:
        once.setattr(store, "write", broken)
        assert not assignments._writer.write_waiting()
    assignments.put([assigned("u2")])
    assignments.close()
    assert (assignments.counts.written, assignments.counts.dropped) == (1, 1)


def test_a_store_that_comes_back_is_used_again_though_nothing_is_to_be_written(tmp_path: Path) -> None:
    url, opened = f"sqlite:///{tmp_path}/serving.db", threading.Semaphore(0)
    tries = iter((False, True))

    def open_store() -> ServingState:
        opened.release()
        if not next(tries):
            raise Unavailable("gone")
        return ServingState(url)

    assignments = Assignments(open_store, interval_s=0.001, away_s=0.01)
    assignments.start()
    assert [opened.acquire(timeout=10) for _ in range(2)] == [True, True]
    assignments.close()
    assert assignments.available


def test_a_store_that_cannot_be_opened_fails_no_request_and_is_tried_again(tmp_path: Path) -> None:
    url, back = f"sqlite:///{tmp_path}/serving.db", False

    def open_store() -> ServingState:
        if not back:
            raise Unavailable("gone")
        return ServingState(url)

    assignments = Assignments(open_store, interval_s=60)
    assignments.start()
    assert read(assignments, "u1").degraded == ASSIGNMENTS_UNAVAILABLE
    assignments.put([assigned("u1")])
    back = True
    assignments.close()
    with ServingState(url) as state:
        assert state.read(("u1",)).assignments == KEPT


@pytest.mark.parametrize("away", [False, True])
def test_past_capacity_the_oldest_are_dropped_and_counted(hold: Hold, store: Store, away: bool) -> None:
    assignments = hold(capacity=10)
    for n in range(15):
        assignments.put([assigned(f"u{n}")])
    store.away = away
    assignments.close()
    assert (assignments.counts.written, assignments.counts.dropped) == ((0, 15) if away else (10, 5))


def test_a_read_that_takes_too_long_is_given_up_and_no_other_one_waits(hold: Hold, store: Store) -> None:
    assignments, go_on = hold(read_timeout_s=0.01), threading.Event()
    slow = store.read

    def wait(units: Sequence[str], **asked: Any) -> Held:
        go_on.wait(30)
        return slow(units, **asked)

    store.read = wait  # type: ignore[method-assign]
    store.read_at_once = lambda *_, **__: None  # type: ignore[method-assign]

    async def ask() -> list[Known]:
        return [await assignments.read((unit,)) for unit in ("u1", "u2", "u3")]

    found = asyncio.run(ask())
    go_on.set()
    assert {known.degraded for known in found} == {ASSIGNMENTS_UNAVAILABLE}
    assignments.close()
    assert store.reads == 1
