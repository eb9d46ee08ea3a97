"""A processor for the time of an import: its own process, which ends by itself where another one already runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from types import TracebackType

from bespoke.errors import BespokeError
from ingestion.worker import OTHER_PROCESSOR
from storage.eventlog.base import EventLog
from storage.profiles import ProfileStore
from storage.settings import Settings

WORKER_BATCH = 2_000
POLL_S = 0.1
RESTART_S = 2.0
"""How long nothing progresses before a processor that has ended is started again."""
GIVE_UP_S = 30.0
"""How long nothing progresses before the import gives up."""
PATIENCE_S = 5.0
"""How long an interrupted import lets its processor go on before it is told to stop."""


class Applying:
    """Sees to it that what is appended to the log is applied: ``with Applying(settings, log) as applying: ...``."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self._settings, self._log = settings, log
        self._profiles = ProfileStore(settings.profiles_url)
        self._before = self._applied()
        self._worker = self._start()

    def __enter__(self) -> "Applying":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            _end(self._worker, patience_s=GIVE_UP_S if kind is None else PATIENCE_S)
        finally:
            self._profiles.close()

    def applied(self) -> int:
        """Return how many messages have been applied since the import began.

        Raises:
            BespokeError: the processor has failed.
        """
        self._check_worker()
        return self._applied() - self._before

    def wait(self) -> Iterator[int]:
        """Yield the count while the rest is being applied.

        Raises:
            BespokeError: the processor has failed, or nothing progresses.
        """
        _close_input(self._worker)
        wanted = {partition: self._log.end(partition) for partition in range(self._log.partitions)}
        moved_at, started_at, count = time.monotonic(), time.monotonic(), self.applied()
        while any(self._profiles.committed(partition) < end for partition, end in wanted.items()):
            yield count
            time.sleep(POLL_S)
            before, count, now = count, self.applied(), time.monotonic()
            if count != before:
                moved_at = now
            if now - moved_at > GIVE_UP_S:
                raise BespokeError(self._stuck())
            if self._worker.poll() is not None and now - max(moved_at, started_at) > RESTART_S:
                self._worker, started_at = self._start(), now
                _close_input(self._worker)
        yield count

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "ingestion.worker", "--until-idle", "--batch", str(WORKER_BATCH)],
            stdin=subprocess.PIPE,
            env=environment(self._settings),
            # A terminal's Ctrl-C is for us; it ends by itself when its input closes.
            start_new_session=True,
        )

    def _check_worker(self) -> None:
        status = self._worker.poll()
        if status not in (None, 0, OTHER_PROCESSOR):
            raise BespokeError(
                f"the processor ended with status {status} before all was applied; run the import again: it goes on"
            )

    def _stuck(self) -> str:
        held = self._worker.poll() == OTHER_PROCESSOR
        who = "another process holds the partitions and applies" if held else "the processor applies"
        advice = f"see who holds {self._settings.home}/*.lock, end or restart it, and run the import again: it goes on"
        return f"{who} nothing for {GIVE_UP_S:.0f} s though messages wait; {advice}"

    def _applied(self) -> int:
        return sum(self._profiles.committed(partition) for partition in range(self._log.partitions))


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which another process opens this installation."""
    return {**os.environ, **settings.environment()}


def _close_input(worker: "subprocess.Popen[bytes]") -> None:
    assert worker.stdin is not None
    worker.stdin.close()


def _end(worker: "subprocess.Popen[bytes]", *, patience_s: float) -> None:
    """Let the worker finish what is in the log; where that takes long, have it stop after its batch."""
    _close_input(worker)
    try:
        worker.wait(patience_s)
    except BaseException as error:
        worker.terminate()
        try:
            worker.wait(GIVE_UP_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
