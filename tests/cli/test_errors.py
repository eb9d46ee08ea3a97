"""What ordinary use can cause is one message; a bug keeps its traceback."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from bespoke.errors import TrainingError
from cli.errors import explained

BESPOKE = Path(sys.executable).parent / "bespoke"


def task_error(cause: Exception) -> Exception:
    """Return what `ray.get` raises where a task raised ``cause``."""
    raised: Any = ray.exceptions.RayTaskError
    wrapped: Exception = raised("fit", "Traceback ...", cause).as_instanceof_cause()
    return wrapped


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | environment
    return subprocess.run([BESPOKE, *arguments], capture_output=True, text=True, check=False, env=env)


def test_a_bad_environment_variable_is_named_with_its_value() -> None:
    done = run("keys", "list", BESPOKE_HTTP_PORT="abc")
    assert done.returncode == 1
    assert "BESPOKE_HTTP_PORT='abc'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("keys", "list", BESPOKE_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_task_raises_on_purpose_is_its_own_message() -> None:
    assert explained(task_error(TrainingError("nothing to learn from"))) == "nothing to learn from"
    assert explained(task_error(task_error(TrainingError("nothing")))) == "nothing"


def test_a_bug_keeps_its_traceback() -> None:
    assert explained(task_error(FileNotFoundError(2, "gone", "x"))) is None
    assert explained(KeyError("x")) is None


@pytest.mark.parametrize(
    "error",
    [ray.exceptions.RayActorError(), ray.exceptions.GetTimeoutError("late"), PermissionError(13, "denied", "x")],
)
def test_trouble_of_the_machine_is_one_line(error: Exception) -> None:
    message = explained(error)
    assert message and len(message.splitlines()) == 1
