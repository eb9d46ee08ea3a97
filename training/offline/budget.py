"""The time that a command may take, and where it went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Clock = Callable[[], float]


@dataclass
class Budget:
    """Seconds that are left of a limit, and what each stage took."""

    limit_s: float
    clock: Clock = time.perf_counter
    stages: dict[str, float] = field(default_factory=dict)
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock()

    @property
    def spent_s(self) -> float:
        """Seconds since the beginning."""
        return self.clock() - self._started

    @property
    def left_s(self) -> float:
        """Seconds until the limit; negative past it."""
        return self.limit_s - self.spent_s

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of what happens inside for this stage."""
        started = self.clock()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + self.clock() - started
