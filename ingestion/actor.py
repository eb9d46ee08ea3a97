"""The processor as a Ray actor: restarted by Ray when its process dies, it reads on from the committed offset."""

import threading
from typing import Any

import ray

from bespoke.errors import BespokeError
from ingestion.worker import Worker
from storage.settings import Settings


class ProcessorActor:
    """Runs a worker in a thread; Ray calls see its state."""

    def __init__(self, settings: Settings) -> None:
        from storage.features import OnlineFeatures

        self._stop = threading.Event()
        self._worker = Worker(settings, sink=OnlineFeatures(settings), batch=500)
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="processor", daemon=True)
        self._thread.start()

    def status(self) -> dict[str, Any]:
        """Return the offsets and whether all is well.

        Raises:
            BespokeError: the processor has stopped, with the reason.
        """
        if self._error is not None:
            raise BespokeError(f"the processor stopped: {self._error}")
        processor = self._worker.processor
        return {"offsets": processor.offsets, "idle": self._worker.idle(), "features_behind": processor.features_behind}

    def stop(self) -> None:
        """Deliver what is open, and end; returns when all is written."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._worker:
                self._worker.processor.run(until=self._stop.is_set)
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"
            raise


def start_processor(settings: Settings) -> Any:
    """Start the actor that owns every partition of this installation; Ray restarts it when its process dies."""
    actor = ray.remote(ProcessorActor).options(
        name="processor", num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=4
    )
    return actor.remote(settings)
