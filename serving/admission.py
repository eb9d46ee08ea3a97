"""How many requests may be under way: as many as can be answered in time, from how long the last ones took.

By Little's law the requests ahead of a new one, times the time between two completions, are the time that it waits. A
queue that grows past what can be waited for helps nobody: it makes every answer late. So what would wait longer is
refused at once, and what is accepted stays fast at any load.

A stall of a tenth of a second, such as while a version is replaced, makes a queue too, which is gone soon after. So as
long as there was none a moment ago, more are taken on.

Source: J. Little, A proof for the queuing formula L = lambda W (1961); https://netflixtechblog.medium.com, "Performance
under load" (concurrency limits from measured latency); B. Maurer, "Fail at scale", ACM Queue 13 (2015): a queue that
was empty lately may be longer.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_WAIT_S = 0.06
"""Leaves as long again for the request itself and for what lies around it, until the 80 ms that were promised."""
FLOOR = 8
"""So many are taken on whatever was measured: a few slow reads at light load are no queue."""
CEILING = 100
BURST = 32
"""So many at most, where there was no queue within ``BURST_S``."""
BURST_S = 0.5
NO_QUEUE = 1
"""Requests under way."""
WEIGHT = 0.1
"""Of the newest request in the mean time of service: it follows a change within some tens of requests."""
LOOK_S = 0.1
FORGOTTEN_S = 1.0
BUSY = 0.25
"""Below this share of one CPU the process waits for others and has no queue of its own; more at once do no harm."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that is under way."""

    at_s: float
    in_flight: int
    """Requests under way when it came, this one included."""


class Admission:
    """Counts the requests of one process and says whether one more can be answered in time."""

    def __init__(
        self,
        *,
        max_wait_s: float = MAX_WAIT_S,
        floor: int = FLOOR,
        ceiling: int = CEILING,
        monotonic: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.process_time,
    ) -> None:
        """Take on everything at first, and learn.

        Args:
            max_wait_s: how long a request may have to wait for those before it.
            floor: how many are always taken on.
            ceiling: how many at most.
            monotonic: seconds.
            cpu_s: CPU seconds that this process has used.
        """
        self._max_wait_s, self._floor, self._ceiling = max_wait_s, min(floor, ceiling), ceiling
        self._monotonic, self._cpu_s = monotonic, cpu_s
        self._service_s = 0.0
        self._no_queue_s = -math.inf
        self._looked = (-math.inf, 0.0)
        self._busy = 1.0
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """How many may be under way: those that can be waited for, and the one that waits."""
        if self._service_s * self._ceiling <= self._max_wait_s or self._busy < BUSY:
            return self._ceiling
        return min(self._ceiling, max(self._floor, int(self._max_wait_s / self._service_s) + 1))

    def enter(self) -> Ticket | None:
        """Take on one request, or None: it would come too late."""
        now_s = self._monotonic()
        if self.in_flight <= NO_QUEUE:
            self._no_queue_s = now_s
        if self.in_flight >= self._floor:
            self._look(now_s)
            is_burst = now_s - self._no_queue_s < BURST_S
            if self.in_flight >= (max(self.limit, min(BURST, self._ceiling)) if is_burst else self.limit):
                return None
        self.in_flight += 1
        return Ticket(now_s, self.in_flight)

    def leave(self, ticket: Ticket) -> None:
        """Say that a request is answered."""
        together = (ticket.in_flight + self.in_flight) / 2
        self.in_flight -= 1
        # Where few are under way, a request's time is its own work and what it reads, and says nothing of a queue.
        if together >= self._floor / 2:
            took_s = (self._monotonic() - ticket.at_s) / together
            self._service_s += WEIGHT * (took_s - self._service_s)

    def _look(self, now_s: float) -> None:
        """See how busy the process is, at most every ``LOOK_S``; what it did long ago says nothing."""
        at_s, used_s = self._looked
        if now_s - at_s < LOOK_S:
            return
        cpu_s = self._cpu_s()
        self._busy = 1.0 if now_s - at_s > FORGOTTEN_S else (cpu_s - used_s) / (now_s - at_s)
        self._looked = now_s, cpu_s
