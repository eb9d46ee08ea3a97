"""The time that stages take: what has a deadline asks whether it is late, and what took how long is kept."""

from collections.abc import Callable
from types import TracebackType


class Stopwatch:
    """Times the stages of one request."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        self._stage = ""
        self._stage_start_s = 0.0
        self.stages: list[tuple[str, float]] = []
        """Name and seconds of each stage that has ended."""

    def stage(self, name: str) -> "Stopwatch":
        """Time one stage: ``with watch.stage(name):``; stages do not lie within one another."""
        self._stage = name
        return self

    def __enter__(self) -> None:
        self._stage_start_s = self._timer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stages.append((self._stage, self._timer() - self._stage_start_s))

    def late(self, deadline_ms: float) -> bool:
        """Return whether the stage that runs has had so much time."""
        return (self._timer() - self._stage_start_s) * 1_000 >= deadline_ms


NEVER_LATE = Stopwatch(lambda: 0.0)
"""For what has to be done whatever it takes."""
