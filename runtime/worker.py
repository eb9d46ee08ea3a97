"""The worker: takes jobs one after the other and runs each in a process of its own, which may hang or die."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from bespoke.errors import BespokeError
from storage.control import ControlStore, Job
from storage.settings import Settings
from storage.sql import Superseded

LEASE = timedelta(seconds=60)
RENEW_S = 10.0
MAX_ATTEMPTS = 2
"""A job whose worker died is tried once more."""
TIMEOUT_S = 3_600.0
ERROR_CHARS = 2_000
NICE = 10
"""Jobs leave the machine to what answers requests."""


class Worker:
    """Takes what waits in the control store.

    Args:
        settings: the installation.
        control: where jobs wait.
        kinds: what it takes; any if absent.
        command: what runs a job, given its number; this project's command line if absent.
    """

    def __init__(
        self,
        settings: Settings,
        control: ControlStore,
        *,
        kinds: Collection[str] | None = None,
        command: Callable[[int], list[str]] | None = None,
    ) -> None:
        self._settings, self._control, self._kinds = settings.absolute(), control, kinds
        self._renewed: datetime | None = None
        self._command = command or _command
        self.name = f"{os.uname().nodename}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def step(self, *, stopped: threading.Event) -> Job | None:
        """Run one job that waits; return it as it ended, or None where none waits.

        A job that is running when ``stopped`` is set is ended and given back, for the next worker to begin anew.

        Raises:
            Unavailable: the control store cannot be reached.
        """
        job = self._control.claim(self.name, at=_now(), lease=LEASE, kinds=self._kinds)
        self._renewed = None
        if job is None:
            return None
        if job.attempts > MAX_ATTEMPTS:
            self._finish(job, error=f"given up: {MAX_ATTEMPTS} workers died or hung with it")
        else:
            self._run(job, stopped)
        return self._control.job(job.job_id)

    def _run(self, job: Job, stopped: threading.Event) -> None:
        folder = self._settings.home / "jobs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{job.job_id}.log"
        timeout_s = float(job.arguments.get("timeout_s", TIMEOUT_S))
        with path.open("wb") as output:
            process = subprocess.Popen(
                self._command(job.job_id),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self._settings.environment()},
                preexec_fn=lambda: os.nice(NICE),
                start_new_session=True,
            )
            ended = self._await(process, job, timeout_s, stopped)
        if ended is None:
            return
        if ended:
            self._finish(job, error=ended)
        else:
            said = path.read_bytes()
            result, error = _said(said)
            failed = process.returncode != 0
            self._finish(job, result=None if failed else result, error=(error or _tail(said)) if failed else None)

    def _await(
        self, process: subprocess.Popen[bytes], job: Job, timeout_s: float, stopped: threading.Event
    ) -> str | None:
        """Return why a job was ended, nothing where it ended itself; None where it is not this worker's any more."""
        deadline = datetime.now(UTC) + timedelta(seconds=timeout_s)
        while True:
            try:
                process.wait(timeout=min(RENEW_S, 0.5))
                return ""
            except subprocess.TimeoutExpired:
                pass
            if stopped.is_set():
                _end(process)
                with suppress(BespokeError):
                    self._control.release(job.job_id, self.name)
                return None
            now = _now()
            if now >= deadline:
                _end(process)
                return f"it took longer than {timeout_s:.0f} s and was ended"
            try:
                self._renew(job, now)
            except Superseded:
                _end(process)
                return None
            except BespokeError:
                # The store is away: the lease outlasts a short time of it.
                continue

    def _renew(self, job: Job, now: datetime) -> None:
        if self._renewed is None or (now - self._renewed).total_seconds() >= RENEW_S:
            self._control.renew(job.job_id, self.name, at=now, lease=LEASE)
            self._renewed = now

    def _finish(self, job: Job, *, result: Any = None, error: str | None = None) -> None:
        try:
            self._control.finish(job.job_id, self.name, at=_now(), result=result, error=error)
        except Superseded:
            return
        outcome = {"error": error} if error is not None else {"result": "done"}
        self._control.record(f"job.{job.kind}", f"job:{job.job_id}", by=job.by, at=_now(), details=outcome)


def _command(job_id: int) -> list[str]:
    return [sys.executable, "-m", "cli.main", "jobs", "work", str(job_id)]


def _said(output: bytes) -> tuple[Any, str | None]:
    """Return the result, which is the last line, and the error, where it ended with one."""
    lines = [line for line in output.splitlines() if line.strip()]
    if not lines:
        return None, None
    try:
        return orjson.loads(lines[-1]), None
    except orjson.JSONDecodeError:
        return None, lines[-1].decode(errors="replace")[-ERROR_CHARS:]


def _tail(output: bytes) -> str:
    return output.decode(errors="replace")[-ERROR_CHARS:].strip() or "it ended without a word"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a job and whatever it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _now() -> datetime:
    return datetime.now(UTC)
