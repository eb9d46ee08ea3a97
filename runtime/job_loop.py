"""The scheduler and two workers of a running installation, beside what it serves."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from bespoke.errors import BespokeError
from runtime.jobs import JOBS, QUICK
from runtime.schedule import Entry, enqueue_due, load_schedule
from runtime.worker import Worker
from storage.control import ControlStore, JobState
from storage.settings import Settings

logger = logging.getLogger(__name__)

EVERY_S = 1.0
RETRY_S = 5.0


class JobLoop:
    """Asks for what is due, and has it done: quick jobs by one worker, those that take long by another.

    ``with JobLoop(settings, say=print): ...`` runs it until the end; jobs that run then are ended, and done again by
    the next worker.
    """

    def __init__(self, settings: Settings, *, say: Callable[[str], None] = lambda _: None) -> None:
        self._settings, self._say = settings, say
        self._stopped = threading.Event()
        self._entries: Mapping[str, Entry] = {}
        self._problem: str | None = None
        self._control = ControlStore(settings.control_url)
        slow = Worker(settings, self._control, kinds=JOBS.keys() - QUICK)
        quick = Worker(settings, self._control, kinds=QUICK)
        loops: Mapping[str, Callable[[], bool]] = {
            "schedule": self._schedule,
            "jobs": lambda: self._work(slow),
            "quick-jobs": lambda: self._work(quick),
        }
        self._threads = [
            threading.Thread(target=self._run, args=(step,), name=name, daemon=True) for name, step in loops.items()
        ]

    def __enter__(self) -> "JobLoop":
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._control.close()

    def _run(self, step: Callable[[], bool]) -> None:
        pause_s = EVERY_S
        while not self._stopped.wait(pause_s):
            try:
                pause_s = 0.0 if step() else EVERY_S
            except Exception as error:
                # Whatever it is: the next look may do better, and what is served goes on.
                self._tell(f"jobs wait: {error}")
                pause_s = RETRY_S

    def _schedule(self) -> bool:
        try:
            self._entries = load_schedule(self._settings.config_dir)
            self._tell(None)
        except BespokeError as error:
            self._tell(f"the schedule stays as it was: {error}")
        enqueue_due(self._entries, self._control, at=datetime.now(UTC))
        return False

    def _work(self, worker: Worker) -> bool:
        job = worker.step(stopped=self._stopped)
        if job is not None and job.state is JobState.FAILED:
            self._say(f"attention: job {job.job_id} ({job.kind}) failed: {job.error}")
        return job is not None

    def _tell(self, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            logger.warning("%s", problem)
            self._say(f"attention: {problem}")
        self._problem = problem
