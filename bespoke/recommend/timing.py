"""The time that stages take: what has a deadline asks whether it is late, and what took how long is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Times the stages of one request."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._stage_start_s = 0.0
        self.stages: list[tuple[str, float]] = []
        """Name and seconds of each stage that has ended."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        self._stage_start_s = self._timer()
        yield
        self.stages.append((name, self._timer() - self._stage_start_s))

    def late(self, deadline_ms: float) -> bool:
        """Return whether the stage that runs has had so much time."""
        return (self._timer() - self._stage_start_s) * 1_000 >= deadline_ms


NEVER_LATE = Stopwatch(lambda: 0.0)
"""For what has to be done whatever it takes."""
