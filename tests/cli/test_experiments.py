"""`bespoke experiments`: start, ramp, stop and status, as text for people and as JSON for scripts."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from bespoke.errors import BespokeError
from cli.main import app
from storage.control import ControlStore
from storage.settings import Settings

HERO = """
[hero]
salt = "hero-1"
start = "by hand"
variants = [{ name = "old", share = 0.9 }, { name = "new", share = 0.1, model = "challenger" }]
ramp = [{ after = "2 days", shares = { new = 0.5 } }]
"""


@pytest.fixture(autouse=True)
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation with one declared experiment."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "experiments.toml").write_text(HERO)
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("BESPOKE_CONFIG_DIR", str(tmp_path / "config"))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ("experiments", *arguments))
    if isinstance(result.exception, BespokeError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def found(*arguments: str) -> Any:
    code, output = run(*arguments, "--json")
    assert code == 0, output
    return orjson.loads(output)


def hero() -> Any:
    (one,) = found("status", "hero")["experiments"]
    return one


def test_an_experiment_is_started_ramped_and_stopped_with_reasons() -> None:
    assert hero()["status"] == "declared"
    assert "hero runs; phase 1: old 0.9, new 0.1 of 1 of its layer" in run("start", "hero")[1]
    assert found("ramp", "hero", "--share", "new=0.2", "--reason", "good")["phase"]["shares"] == {
        "old": 0.8,
        "new": 0.2,
    }
    assert found("stop", "hero", "--reason", "done")["status"] == "stopped"
    one = hero()
    assert [(phase["number"], phase["reason"]) for phase in one["phases"]] == [(1, ""), (2, "good")]
    assert one["stoppedAt"] is not None and one["next"] is None


def test_the_status_says_what_comes_next_and_what_it_waits_for() -> None:
    run("start", "hero")
    one = hero()
    assert (one["status"], one["waitsFor"]) == ("waits", ["champion", "challenger"])
    assert (one["next"]["number"], one["next"]["shares"]) == (2, {"old": 0.5, "new": 0.5})
    assert one["assigned"] == []
    code, output = run("status")
    assert (code, "hero" in output, "old 0.9" in output.replace("\n", " ")) == (0, True, True)
    assert "phases" in run("status", "hero")[1]


def test_the_status_says_who_is_held_out() -> None:
    assert found("status")["holdout"] is None
    with ControlStore(Settings().control_url) as control:
        control.set_experiment("holdout", {"share": 0.05, "salt": "h"}, by="ada", at=datetime(2026, 3, 1, tzinfo=UTC))
    assert found("status")["holdout"]["share"] == 0.05
    assert "holdout: 0.05 of all units" in run("status")[1]


def test_what_cannot_be_is_told_with_the_way_out() -> None:
    assert run("ramp", "hero", "--share", "new=0.2") == (1, "experiment 'hero' does not run; these do: none")
    assert run("start", "hera")[1] == "no experiment 'hera' in config/experiments.toml; there are: hero"
    run("start", "hero")
    assert "no variant 'nwe'" in run("ramp", "hero", "--share", "nwe=0.2")[1]
    for arguments in (("--share", "new"), ()):
        assert run("ramp", "hero", *arguments)[0] == 2
