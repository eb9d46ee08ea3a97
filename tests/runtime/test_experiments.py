"""Experiments of an installation: declared, put in force, changed by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bespoke.errors import ConfigError, NotFound
from bespoke.experiments import Assignment
from runtime.experiments import Standing, put_in_force, ramp, standing, start, stop
from storage.control import ControlStore
from storage.serving_state import ServingState
from storage.settings import Settings

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HERO = """
[hero]
salt = "hero-1"
variants = [{ name = "old", share = 0.9 }, { name = "new", share = 0.1, model = "challenger" }]
ramp = [{ after = "2 days", shares = { new = 0.5 } }]
"""

Declare = Callable[[str], None]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "config").mkdir()
    return Settings(home=tmp_path / "var", config_dir=tmp_path / "config")


@pytest.fixture
def declare(settings: Settings) -> Declare:
    """Return what writes the file and starts an installation with it, a day later each time."""
    days = iter(range(99))

    def up(text: str) -> None:
        (settings.config_dir / "experiments.toml").write_text(text)
        put_in_force(settings, at=AT + timedelta(days=next(days)))

    return up


def stands(settings: Settings, name: str = "hero", *, days: float = 0) -> Standing:
    (one,) = standing(settings, name, at=AT + timedelta(days=days))
    return one


def actions(settings: Settings) -> list[tuple[str, str]]:
    with ControlStore(settings.control_url) as control:
        return [(entry.action, entry.by) for entry in reversed(control.audit_trail())]


def promote(settings: Settings, pointer: str) -> None:
    with ControlStore(settings.control_url) as control:
        control.set_pointer(pointer, "als@1", by="ada", reason="", at=AT)


def test_what_is_declared_runs_from_the_start_on_and_ramps_by_itself(settings: Settings, declare: Declare) -> None:
    promote(settings, "champion")
    declare(HERO)
    assert (stands(settings).status, stands(settings).waits_for) == ("waits", ("challenger",))
    promote(settings, "challenger")
    for days, share in ((0, 0.1), (2, 0.5)):
        now = stands(settings, days=days).now
        assert now is not None and now.shares["new"] == share
    coming = stands(settings).next
    assert coming is not None and coming.at_ms == round((AT + timedelta(days=2)).timestamp() * 1000)


def test_starting_again_with_the_same_file_changes_nothing(settings: Settings, declare: Declare) -> None:
    for _ in range(3):
        declare(HERO)
    assert actions(settings) == [("experiment.start", "config/experiments.toml")]


def test_what_an_earlier_version_stored_goes_on(settings: Settings, declare: Declare) -> None:
    declare("")
    promote(settings, "champion")
    bare = {"salt": "hero-1", "variants": [{"name": "all", "share": 1.0, "model": "champion"}]}
    with ControlStore(settings.control_url) as control:
        control.set_experiment("hero", {"name": "hero", "unit": "person"} | bare, by="file", at=AT)
    declare('[hero]\nsalt = "hero-1"\nvariants = [{ name = "all", share = 1 }]')
    assert stands(settings, days=1).status == "running"


def test_what_was_stopped_by_hand_stays_stopped_until_it_is_started_or_salted_anew(
    settings: Settings, declare: Declare
) -> None:
    declare(HERO)
    stop(settings, "hero", by="bob", at=AT, reason="odd numbers")
    declare(HERO)
    assert stands(settings).status == "stopped"
    assert actions(settings)[-1] == ("experiment.stop", "bob")
    again = start(settings, "hero", by="bob", at=AT + timedelta(days=1))
    assert (again.running, again.phases[-1].number) == (True, 2)
    stop(settings, "hero", by="bob", at=AT + timedelta(days=2))
    declare(HERO.replace("hero-1", "hero-2"))
    assert stands(settings, days=3).status == "waits"


def test_an_experiment_may_wait_for_a_start_by_hand(settings: Settings, declare: Declare) -> None:
    declare(HERO + 'start = "by hand"')
    assert stands(settings).status == "declared"
    start(settings, "hero", by="ada", at=AT)
    with pytest.raises(ConfigError, match="runs already"):
        start(settings, "hero", by="ada", at=AT)
    assert stands(settings).status == "waits"


def test_another_salt_while_it_runs_is_refused_with_the_way_out(settings: Settings, declare: Declare) -> None:
    declare(HERO)
    with pytest.raises(ConfigError, match=r"salt cannot change .*`bespoke experiments stop hero`"):
        declare(HERO.replace("hero-1", "hero-2"))


def test_a_ramp_by_hand_is_a_phase_with_a_reason(settings: Settings, declare: Declare) -> None:
    declare(HERO)
    state = ramp(settings, "hero", shares={"new": 0.2}, by="bob", at=AT, reason="looks good")
    assert (state.phases[-1].shares, state.phases[-1].reason) == ({"old": 0.8, "new": 0.2}, "looks good")
    assert stands(settings, days=9).now == state.phases[-1]
    assert actions(settings)[-1] == ("experiment.ramp", "bob")
    with pytest.raises(NotFound, match="'hera' does not run; these do: hero"):
        ramp(settings, "hera", shares={"new": 0.2}, by="bob", at=AT)


def test_what_is_no_longer_declared_ends_and_makes_room_for_others(settings: Settings, declare: Declare) -> None:
    declare(HERO)
    declare(HERO.replace("[hero]", "[next]").replace("hero-1", "next-1") + "[holdout]\nshare = 0.1\nsalt = 'h'")
    with ControlStore(settings.control_url) as control:
        assert set(control.experiments()) == {"next", "holdout"}
    declare("")
    with ControlStore(settings.control_url) as control:
        assert control.experiments() == {}


def test_a_layer_without_room_is_told_with_who_is_in_it(settings: Settings, declare: Declare) -> None:
    other = HERO.replace("[hero]", "[other]").replace("hero-1", "other-1") + 'start = "by hand"'
    declare(HERO + other)
    with pytest.raises(ConfigError, match="traffic 1 of layer 'default' is not free beside hero"):
        start(settings, "other", by="ada", at=AT)
    stop(settings, "hero", by="ada", at=AT)
    assert start(settings, "other", by="ada", at=AT).running


def test_stored_assignments_are_counted_and_a_store_that_is_away_is_no_obstacle(
    settings: Settings, declare: Declare
) -> None:
    declare(HERO)
    made = [Assignment("hero", "new", f"u{n}", 1, 5, "hero:hero-1", new=True) for n in range(3)]
    with ServingState(settings.serving_url) as state:
        state.write(assignments=made, now_ms=5)
    assert stands(settings).assigned == {("new", 1): 3}
    away = settings.model_copy(update={"serving_url": f"sqlite:///{settings.config_dir}"})
    assert stands(away).assigned is None


def test_an_unknown_name_is_told_with_those_that_are_known(settings: Settings, declare: Declare) -> None:
    declare(HERO)
    with pytest.raises(NotFound, match="no experiment 'hera'; there are: hero"):
        standing(settings, "hera", at=AT)
    with pytest.raises(NotFound, match=r"'hera' in config/experiments\.toml; there are: hero"):
        start(settings, "hera", by="ada", at=AT)
