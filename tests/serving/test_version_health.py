"""Counting how versions do at answering, beside the requests."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bespoke.clock import FixedClock
from bespoke.errors import Unavailable
from bespoke.experiments import bucket_of, total
from serving.version_health import VersionHealth
from storage.control import ControlStore
from storage.control_traffic import Served

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlStore]:
    with ControlStore(f"sqlite:///{tmp_path}/control.db") as opened:
        yield opened


def counts(control: ControlStore) -> dict[Served, tuple[int, int, int]]:
    rows = control.health(since=AT - timedelta(hours=2))
    whole = {served: total(r.health for r in rows if r.served == served) for served in {r.served for r in rows}}
    return {served: (health.count, health.errors, health.missed) for served, health in whole.items()}


def test_answers_are_counted_by_version_and_variant(control: ControlStore) -> None:
    health = VersionHealth(control, clock=FixedClock(AT))
    for n in range(10):
        health.record("als@1", ms=3.0, error=n < 2, missed=n < 3)
    health.record("als@2", ms=80.0, experiment="hero", variant="new")
    health.flush()
    assert counts(control) == {Served("als@1"): (10, 2, 3), Served("als@2", "hero", "new"): (1, 0, 0)}
    (row,) = [row for row in control.health(since=AT) if row.served.version == "als@2"]
    assert row.health.latency[bucket_of(80.0)] == 1


def test_written_counts_go_on_and_are_not_counted_twice(control: ControlStore) -> None:
    clock = FixedClock(AT)
    health = VersionHealth(control, clock=clock)
    for second in range(12):
        clock.set(AT + timedelta(seconds=second))
        health.record("als@1", ms=3.0)
        health.flush()
        health.flush()
    assert counts(control) == {Served("als@1"): (12, 0, 0)}
    assert [row.health.count for row in control.health(since=AT)] == [5, 5, 2]


def test_replicas_add_up(control: ControlStore) -> None:
    for _ in range(3):
        health = VersionHealth(control, clock=FixedClock(AT))
        health.record("als@1", ms=3.0)
        health.close()
    assert counts(control) == {Served("als@1"): (3, 0, 0)}


def test_other_layers_are_counted_without_the_version_that_they_did_not_choose(control: ControlStore) -> None:
    health = VersionHealth(control, clock=FixedClock(AT))
    health.record(None, ms=3.0, experiment="hero", variant="new", others=[("lists", "diverse")], error=True)
    health.flush()
    assert counts(control) == {Served("", "hero", "new"): (1, 1, 0), Served("", "lists", "diverse"): (1, 1, 0)}


def test_counts_wait_while_the_control_store_is_away(control: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise Unavailable("gone")

    clock = FixedClock(AT)
    health = VersionHealth(control, clock=clock)
    with monkeypatch.context() as away:
        away.setattr(control, "save_health", gone)
        for minute in range(3):
            clock.set(AT + timedelta(minutes=minute))
            health.record("als@1", ms=3.0)
            assert not health.flush()
    assert health.flush()
    assert counts(control) == {Served("als@1"): (3, 0, 0)}


def test_a_running_counter_writes_by_itself_and_ends_with_everything_written(control: ControlStore) -> None:
    health = VersionHealth(control, clock=FixedClock(AT), interval_s=0.001)
    health.start()
    health.record("als@1", ms=3.0)
    assert health.alive
    health.close()
    assert not health.alive
    assert counts(control) == {Served("als@1"): (1, 0, 0)}
