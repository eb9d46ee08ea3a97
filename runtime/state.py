"""What a running installation writes down of itself, so that others find it and leftovers of a killed one are ended."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import psutil

FILE = "running.json"


@dataclass(frozen=True, slots=True)
class RunningState:
    """One running installation."""

    pid: int
    started: float
    """When the process started, in seconds since 1970: with the pid it tells one process from all others."""
    ray_address: str
    http_port: int

    def alive(self) -> bool:
        """Return whether that process still runs."""
        return _same_process(self.pid, self.started)


def write_state(home: Path, *, ray_address: str, http_port: int) -> None:
    """Write down that this process runs the installation."""
    state = RunningState(os.getpid(), psutil.Process().create_time(), ray_address, http_port)
    temporary = home / f"{FILE}.tmp"
    temporary.write_bytes(orjson.dumps(asdict(state)))
    temporary.replace(home / FILE)


def read_state(home: Path) -> RunningState | None:
    """Return what was written down, or None."""
    try:
        return RunningState(**orjson.loads((home / FILE).read_bytes()))
    except (FileNotFoundError, TypeError, orjson.JSONDecodeError):
        return None


def clear_state(home: Path) -> None:
    """Forget what was written down."""
    (home / FILE).unlink(missing_ok=True)


def _same_process(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.Error:
        return False
