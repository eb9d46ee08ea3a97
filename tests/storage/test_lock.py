"""One owner at a time, whatever happens to it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.lock import OwnerLock

HOLD = """
import sys, time
from pathlib import Path
from storage.lock import OwnerLock
with OwnerLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "owner.lock"


def test_a_held_lock_is_refused_and_its_owner_named(path: Path) -> None:
    with OwnerLock(path), pytest.raises(Unavailable, match=f"held by process {os.getpid()} on"):
        OwnerLock(path).acquire()


def test_a_released_lock_is_free(path: Path) -> None:
    with OwnerLock(path):
        pass
    with OwnerLock(path):
        pass


def test_an_exception_releases_the_lock(path: Path) -> None:
    with pytest.raises(ValueError, match="no"), OwnerLock(path):
        raise ValueError("no")
    OwnerLock(path).acquire()


def test_a_refused_attempt_does_not_disturb_the_owner(path: Path) -> None:
    with OwnerLock(path):
        for _ in range(2):
            with pytest.raises(Unavailable):
                OwnerLock(path).acquire()
        assert path.read_text().startswith(f"process {os.getpid()}")


def test_a_killed_owner_s_lock_is_free(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Unavailable, match=f"process {process.pid} on"):
            OwnerLock(path).acquire()
        process.kill()
        process.wait()
        with OwnerLock(path, timeout_s=30):
            assert path.read_text().startswith(f"process {os.getpid()} on")


def test_a_child_program_does_not_inherit_the_lock(path: Path) -> None:
    program = [sys.executable, "-c", "print(flush=True); input()"]
    with OwnerLock(path):
        child = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
        assert child.stdout is not None
        child.stdout.readline()  # until the program runs, the child is still a copy of this process
    with OwnerLock(path):
        child.communicate(b"\n")


def test_waiting_ends_when_the_owner_lets_go(path: Path) -> None:
    owner = OwnerLock(path)
    owner.acquire()
    waiting = threading.Thread(target=lambda: OwnerLock(path, timeout_s=60).acquire())
    waiting.start()
    owner.release()
    owner.release()
    waiting.join(30)
    assert not waiting.is_alive()


def test_one_lock_cannot_be_taken_twice(path: Path) -> None:
    with OwnerLock(path) as lock, pytest.raises(Unavailable, match="held already"):
        lock.acquire()


def test_a_path_that_cannot_be_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"file/x\.lock"):
        OwnerLock(tmp_path / "file" / "x.lock").acquire()
