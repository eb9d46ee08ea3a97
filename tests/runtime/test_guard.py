"""The guard takes a bad version out of traffic, writes down why, and leaves good ones alone."""

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bespoke.clock import FixedClock, to_ms
from bespoke.errors import Unavailable
from bespoke.experiments import ExperimentState, GuardSettings, parse_experiment, parse_state
from runtime.guard import Guard
from serving.version_health import VersionHealth
from storage.control import ControlStore

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERO: dict[str, Any] = {
    "salt": "s",
    "variants": [
        {"name": "old", "share": 0.8},
        {"name": "new", "share": 0.1, "model": "challenger"},
        {"name": "diverse", "share": 0.1, "pipeline": "diverse"},
    ],
}


class House:
    """A control store, a replica that counts what it answers, and the guard; time passes when it is told to."""

    def __init__(self, control: ControlStore) -> None:
        self.control, self.clock = control, FixedClock(AT)
        self.replica = VersionHealth(control, clock=self.clock)
        self.guard = Guard(control)

    def pass_s(self, seconds: float) -> None:
        self.clock.set(self.clock.now() + timedelta(seconds=seconds))

    def point(self, pointer: str, version: str) -> None:
        self.control.set_pointer(pointer, version, by="ada", reason="", at=self.clock.now())

    def split(self) -> None:
        state = ExperimentState.begin(parse_experiment("hero", HERO), at_ms=to_ms(self.clock.now()), by="ada")
        self.control.set_experiment("hero", state.model_dump(mode="json"), by="ada", at=self.clock.now())

    def serve(
        self, version: str, variant: str | None = None, *, n: int = 100, errors: int = 0, ms: Sequence[float] = (5.0,)
    ) -> None:
        experiment = None if variant is None else "hero"
        for one in range(n):
            took = ms[one % len(ms)]
            self.replica.record(version, ms=took, experiment=experiment, variant=variant, error=one < errors)
        self.replica.flush()

    def look(self) -> list[str]:
        return [done.subject for done in self.guard.look(self.clock.now())]

    @property
    def shares(self) -> dict[str, float]:
        state = parse_state("hero", self.control.experiment("hero"))
        return state.phase_at(to_ms(self.clock.now())).shares

    @property
    def last(self) -> tuple[str, str, str]:
        entry = self.control.audit_trail()[0]
        return entry.action, entry.subject, entry.by


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ControlStore(f"sqlite:///{tmp_path}/control.db") as control:
        yield House(control)


@pytest.fixture
def split(house: House) -> House:
    """An experiment that began ten seconds ago, with a challenger."""
    house.point("champion", "als@1")
    house.point("challenger", "als@2")
    house.split()
    house.pass_s(10)
    return house


def test_a_variant_whose_version_raises_gets_nobody_any_more_and_the_control_takes_them(
    split: House, caplog: pytest.LogCaptureFixture
) -> None:
    split.serve("als@1", "old", n=400)
    split.serve("als@2", "new", n=50, errors=50)
    with caplog.at_level(logging.WARNING):
        assert split.look() == ["experiment:hero/new"]
    assert split.shares == {"old": pytest.approx(0.9), "new": 0.0, "diverse": pytest.approx(0.1)}
    assert split.last == ("experiment.rollback", "experiment:hero", "guard")
    assert "errors in 100.00% of 50 requests, against 0.00% of 400" in caplog.text
    assert split.look() == []


def test_a_variant_that_differs_by_its_pipeline_is_held_against_the_control_too(split: House) -> None:
    split.serve("als@1", "old", n=400)
    split.serve("als@1", "diverse", n=50, errors=40)
    assert split.look() == ["experiment:hero/diverse"]


def test_a_canary_alone_in_its_experiment_is_held_against_the_champion_elsewhere(split: House) -> None:
    split.serve("als@1", n=400)
    split.serve("als@2", "new", n=50, errors=40)
    assert split.look() == ["experiment:hero/new"]


def test_a_slow_variant_is_taken_out_at_the_second_look_only(split: House) -> None:
    split.serve("als@1", "old", n=400)
    split.serve("als@2", "new", n=400, ms=(200.0,))
    assert split.look() == []
    split.pass_s(2)
    assert split.look() == ["experiment:hero/new"]


def test_what_a_version_did_before_it_was_put_back_does_not_count(split: House) -> None:
    split.serve("als@1", "old", n=400)
    split.serve("als@2", "new", errors=100)
    assert split.look()
    split.pass_s(10)
    state = parse_state("hero", split.control.experiment("hero"))
    again = state.ramped(at_ms=to_ms(split.clock.now()), by="ada", shares={"new": 0.1})
    split.control.set_experiment("hero", again.model_dump(mode="json"), by="ada", at=split.clock.now())
    split.pass_s(10)
    split.serve("als@1", "old", n=400)
    split.serve("als@2", "new")
    assert split.look() == []


def test_a_champion_that_fails_after_its_promotion_goes_back_to_the_one_before(house: House) -> None:
    house.point("champion", "als@1")
    house.serve("als@1", n=400)
    house.pass_s(60)
    house.point("champion", "als@2")
    house.pass_s(10)
    house.serve("als@2", errors=100)
    assert house.look() == ["pointer:champion"]
    assert house.control.pointer("champion") == "als@1"
    assert house.last == ("pointer.rollback", "pointer:champion", "guard")


@pytest.mark.parametrize(("requests", "found"), [(400, ["pointer:champion"]), (4_000, [])])
def test_a_new_champion_that_is_slower_goes_back_unless_there_is_more_to_do_too(
    house: House, requests: int, found: list[str]
) -> None:
    house.point("champion", "als@1")
    house.serve("als@1", n=400)
    house.pass_s(10)
    house.point("champion", "als@2")
    house.pass_s(10)
    house.serve("als@2", n=requests, ms=(200.0,))
    assert house.look() == []
    assert house.look() == found


def test_a_version_that_one_went_back_to_is_no_canary(house: House) -> None:
    for version in ("als@0", "als@1", "als@2"):
        house.point("champion", version)
    house.serve("als@2", n=400)
    house.control.rollback_pointer("champion", by="ada", reason="", at=house.clock.now())
    house.pass_s(10)
    house.serve("als@1", errors=100)
    assert house.look() == []


def test_a_champion_of_long_ago_is_no_canary(house: House) -> None:
    house.point("champion", "als@1")
    house.serve("als@1", n=400)
    house.point("champion", "als@2")
    house.pass_s(1_801)
    house.serve("als@2", errors=100)
    assert house.look() == []


def test_a_guard_that_is_switched_off_does_nothing(split: House) -> None:
    split.guard = Guard(split.control, GuardSettings(enabled=False))
    split.serve("als@1", "old", n=400)
    split.serve("als@2", "new", errors=100)
    assert split.look() == []


def test_a_control_store_that_is_away_is_no_reason_to_end(split: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(split.control, "pointers", gone)
    assert split.look() == []


def test_a_healthy_canary_is_left_alone_over_many_looks(split: House) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        for version, variant, n in (("als@1", "old", 80), ("als@2", "new", 10), ("als@1", "diverse", 10)):
            split.serve(version, variant, n=n, errors=int(rng.binomial(n, 0.02)), ms=rng.lognormal(2, 0.8, n).tolist())
        split.pass_s(2)
        assert split.look() == []
