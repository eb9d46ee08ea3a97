"""`bespoke evaluate` on files: one JSON object, errors in words, and figures that are known by construction."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from cli.main import app

BESPOKE = Path(sys.executable).parent / "bespoke"
Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Writes CSV files; the command runs beside them, where there is no installation."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "als.toml").write_text("factors = 4\nepochs = 2\n")

    def make(name: str, heading: str, *rows: tuple[Any, ...]) -> Path:
        (tmp_path / name).write_text("\n".join([heading, *(",".join(map(str, row)) for row in rows)]) + "\n")
        return tmp_path / name

    return make


def tastes(*, times: bool = False) -> list[tuple[Any, ...]]:
    """Twenty people of two tastes, each with all but one of the five items of it."""
    taken = [(user, item) for user in range(20) for item in range(user % 2, 10, 2) if item // 2 != user % 5]
    return [(*pair, 1_700_000_000 + 86_400 * n) for n, pair in enumerate(taken)] if times else taken


def left_out() -> list[tuple[int, int]]:
    """The items that :func:`tastes` leaves out."""
    return [(user, 2 * (user % 5) + user % 2) for user in range(20)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout if result.exit_code == 0 else result.stderr


def report(*arguments: str) -> dict[str, Any]:
    code, output = run(*arguments, "--json", "--time-limit", "5s")
    assert code == 0, output
    found: dict[str, Any] = orjson.loads(output)
    assert output.count("\n") == 1
    return found


def test_what_fits_the_taste_comes_first_and_beats_popularity(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    files("test.csv", "user_id,item_id", *left_out())
    found = report("--model", "als", "--train", "train.csv", "--test", "test.csv", "--config", "als.toml", "--k", "1,3")
    assert (found["model"], found["users"], found["repeats"]) == ("als", 20, "mask")
    assert found["metrics"]["recall@1"] == 1.0 == found["intervals"]["ndcg@1"]["low"]
    assert found["baselines"]["popularity"]["metrics"]["recall@1"] < 1.0
    assert found["difference"]["metrics"]["recall@1"]["low"] > 0
    assert found["config"]["factors"] == 4 and found["search"]["settings_from"] == "file"


def test_settings_are_found_where_none_are_given(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    files("test.csv", "user_id,item_id", *left_out())
    found = report("--model", "als", "--train", "train.csv", "--test", "test.csv", "--k", "3")
    assert found["search"]["trials"] and found["search"]["settings_from"] == "search"
    assert found["metrics"]["recall@3"] == 1.0


def test_several_models_stand_side_by_side_on_the_same_people(files: Files) -> None:
    files("train.csv", "user_id,item_id,timestamp", *tastes(times=True))
    arguments = ("--train", "train.csv", "--split", "leave-last", "--k", "2")
    found = report("--model", "popularity", "--model", "buy_again", *arguments)
    assert set(found["models"]) == {"popularity", "buy_again"}
    assert found["models"]["popularity"]["metrics"] == found["baselines"]["popularity"]["metrics"]
    assert (found["split"], found["users"]) == ("last", 20)


def test_auto_says_what_it_took_and_why(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    files("test.csv", "user_id,item_id", *left_out())
    found = report("--model", "auto", "--train", "train.csv", "--test", "test.csv", "--k", "1")
    assert found["model"] == found["auto"]["model"]
    assert {"popularity", "als"} <= set(found["auto"]["reasons"])


def test_newcomers_are_counted_apart(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    files("test.csv", "user_id,item_id", ("new", 0), ("new", "unheard-of"))
    found = report("--model", "popularity", "--train", "train.csv", "--test", "test.csv", "--k", "1000")
    assert found["cohorts"]["new"]["n"] == found["users"] == 1
    assert found["metrics"]["recall@1000"] == 0.5
    assert found["data"]["relevant_unknown_to_train"] == 1
    assert found["difference"]["metrics"]["recall@1000"]["low"] is None


def test_repeats_are_masked_or_allowed_as_train_has_them(files: Files) -> None:
    again = [(user, item, day) for user in range(5) for day, item in enumerate((1, 2, 1, 2, 1))]
    files("again.csv", "user_id,item_id,timestamp", *again)
    arguments = ("--model", "buy_again", "--train", "again.csv", "--split", "leave-last", "--k", "1")
    assert report(*arguments)["repeats"] == "allow"
    code, output = run(*arguments, "--repeats", "mask")
    assert (code, "use --repeats allow" in output) == (2, True)


def test_a_table_for_people_fits_eighty_columns(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    arguments = ("--model", "als", "--train", "train.csv", "--split", "leave-last", "--config", "als.toml")
    code, output = run(*arguments)
    tables = [line for line in output.splitlines() if line[:1] in "│┏┡└"]
    assert code == 0 and tables and max(map(len, tables)) <= 80
    assert "ndcg@20" in output and "95% interval" in output


def test_only_the_object_is_on_stdout_and_ray_stays_out(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    script = "import sys; from cli.main import app\ntry: app()\nfinally: assert 'ray' not in sys.modules"
    arguments = ["--model", "popularity", "--train", "train.csv", "--split", "leave-last", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, "evaluate", *arguments], capture_output=True, text=True, check=True
    )
    assert orjson.loads(done.stdout)["model"] == "popularity"
    assert "reading" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--train", "train.csv"), "give either --test FILE or --split"),
        (("--train", "train.csv", "--test", "train.csv", "--split", "leave-last"), "give either --test FILE"),
        (("--train", "train.csv", "--split", "half"), "expected leave-last or time:DATE"),
        (("--train", "train.csv", "--split", "time:soon"), "is no date"),
        (("--train", "train.csv", "--split", "time:2020-01-01"), "needs a column timestamp"),
        (("--train", "train.csv", "--split", "leave-last", "--until", "now"), "--until is for the lake"),
        (("--train", "train.csv", "--split", "leave-last", "--k", "0"), "write whole numbers from 1 to 1000"),
        (("--train", "train.csv", "--split", "leave-last", "--time-limit", "soon"), "write one such as 90s"),
        (("--train", "train.csv", "--split", "leave-last", "--repeats", "some"), "is not one of"),
        (("--train", "train.csv", "--split", "leave-last", "--config", "none.toml"), "no file at none.toml"),
        (("--train", "none.csv", "--split", "leave-last"), "no file at none.csv; there are:"),
        (("--train", "train.csv", "--test", "train.csv", "--repeats", "mask"), "use --repeats allow"),
        (("--test", "train.csv"), "--test needs --train"),
    ],
)
def test_what_people_get_wrong_is_told_with_status_two(files: Files, arguments: tuple[str, ...], said: str) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    code, output = run("--model", "als", *arguments)
    plain = " ".join(output.replace("│", " ").split())
    assert code == 2 and said in plain and "Traceback" not in output


def test_a_model_that_there_is_not_is_told(files: Files) -> None:
    files("train.csv", "user_id,item_id", *tastes())
    code, output = run("--model", "oracle", "--train", "train.csv", "--split", "leave-last")
    assert code == 2 and "model kind 'oracle', expected auto or one of popularity" in output
