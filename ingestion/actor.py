"""The processor as a Ray actor: restarted by Ray when its process dies, it reads on from the committed offset."""

import logging
import os
import threading
from typing import Any

import ray

from bespoke.errors import Unavailable
from ingestion.delivery import Deliveries
from ingestion.worker import Worker
from storage.settings import Settings

log = logging.getLogger(__name__)

BATCH = 500
RETRY_S = 0.2


class ProcessorActor:
    """Runs a worker in a thread; Ray calls see its state.

    Where the thread fails, the process ends, so that Ray starts another one.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._worker: Worker | None = None
        self._deliveries: Deliveries | None = None
        self._waits_for: str | None = None
        self._thread = threading.Thread(target=self._run, name="processor", daemon=True)
        self._thread.start()

    def status(self) -> dict[str, Any]:
        """Return whether all of the log is applied, and what the processor waits for, if anything."""
        if self._worker is None:
            return {
                "running": False,
                "idle": False,
                "waits_for": self._waits_for,
                "features_behind": None,
                "config_problem": None,
            }
        processor = self._worker.processor
        return {
            "running": True,
            "idle": self._worker.idle(),
            "waits_for": processor.waits_for,
            "features_behind": processor.features_behind,
            "config_problem": self._worker.segments.problem or self._subscribers_problem(),
        }

    def stop(self) -> None:
        """Deliver what is open, and end; returns when all is written."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._open()
            if self._worker is not None:
                with self._worker, Deliveries(self._settings) as self._deliveries:
                    self._worker.processor.run(until=self._stop.is_set)
        except Exception:
            log.exception("the processor ends; Ray starts it again")
            os._exit(1)

    def _subscribers_problem(self) -> str | None:
        return None if self._deliveries is None else self._deliveries.problem

    def _open(self) -> None:
        """Wait for the stores, and for the process that holds the partitions now: an import, or one that is dying."""
        from storage.features import OnlineFeatures
        from storage.features.items import OnlineItems

        while self._worker is None and not self._stop.is_set():
            try:
                people, items = OnlineFeatures(self._settings), OnlineItems(self._settings)
                self._worker = Worker(self._settings, sink=people, items=items, batch=BATCH)
            except Unavailable as error:
                self._waits_for = str(error)
                self._stop.wait(RETRY_S)


def start_processor(settings: Settings) -> Any:
    """Start the actor that owns every partition of this installation; Ray restarts it when its process dies."""
    actor = ray.remote(ProcessorActor).options(
        name="processor", num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=4
    )
    return actor.remote(settings)
