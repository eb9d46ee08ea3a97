"""`bespoke recommend` says what is wrong before it starts anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bespoke.errors import BespokeError
from cli.main import app


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run where there is an installation without anything in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    return tmp_path


def refused(*arguments: str) -> str:
    """Return what is said of a command that cannot be."""
    result = CliRunner().invoke(app, ["recommend", "--users", "people.csv", "--out", "lists", *arguments])
    if result.exit_code == 2:
        return result.stderr
    assert isinstance(result.exception, BespokeError)
    return str(result.exception)


def test_a_file_that_is_missing_or_names_no_people_is_said(nowhere: Path) -> None:
    assert "no file at people.csv" in refused()
    (nowhere / "people.csv").write_text("who\nu1\n")
    assert "people.csv has no column user_id; it has: who" in refused()


def test_a_folder_that_is_there_already_is_left_alone(nowhere: Path) -> None:
    (nowhere / "lists").mkdir()
    (nowhere / "lists" / "mine").write_text("kept")
    assert "lists: it is there already; name a folder that is not" in refused()


def test_a_model_that_there_is_not_is_said_and_nothing_is_left_behind(nowhere: Path) -> None:
    (nowhere / "people.csv").write_text("user_id\nu1\n")
    assert "model 'champion': nothing was promoted to it" in refused()
    assert "no such pointer" in refused("--model", "challenger")
    assert sorted(path.name for path in nowhere.iterdir()) == ["people.csv", "var"]


def test_numbers_out_of_range_are_refused() -> None:
    assert "--num" in refused("--num", "0")
