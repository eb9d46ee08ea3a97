"""How much memory this process and all that it started hold."""

import threading

import psutil


class PeakMemory:
    """The largest memory of this process and its children together, sampled in a thread, in MB."""

    def __init__(self, *, every_s: float = 0.5) -> None:
        self.mb = 0.0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.mb = max(self.mb, family_memory_mb())
            self._stop.wait(self._every_s)


def family_memory_mb() -> float:
    """Return the proportional memory of this process and all its children, in MB: shared pages count once."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6
