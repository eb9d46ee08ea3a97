"""Room for requests: as many as can be answered in time."""

import heapq

import pytest

from serving.admission import Admission, Ticket

PATIENCE_S = 0.05


class Server:
    """One worker that takes every request in turn, in simulated time."""

    def __init__(self, service_s: float, *, busy: float = 1.0) -> None:
        self.now_s, self.service_s, self._busy, self._free_s = 0.0, service_s, busy, 0.0
        self.admission = Admission(
            max_wait_s=PATIENCE_S, monotonic=lambda: self.now_s, cpu_s=lambda: self.now_s * self._busy
        )
        self.accepted_s: list[tuple[float, float]] = []
        self.refused = 0
        self._under_way: list[tuple[float, float, Ticket]] = []

    def offer(self, rate: float, *, seconds: float, waits_s: float = 0.0) -> None:
        """Offer requests evenly; each takes the worker for ``service_s`` and waits for somebody else besides."""
        for _ in range(round(rate * seconds)):
            self.now_s += 1 / rate
            arrived_s = self.now_s
            while self._under_way and self._under_way[0][0] <= arrived_s:
                self.now_s, _, ticket = heapq.heappop(self._under_way)
                self.admission.leave(ticket)
            self.now_s = arrived_s
            entered = self.admission.enter()
            if entered is None:
                self.refused += 1
                continue
            self._free_s = max(self._free_s, arrived_s) + self.service_s
            done_s = self._free_s + waits_s
            self.accepted_s.append((arrived_s, done_s - arrived_s))
            heapq.heappush(self._under_way, (done_s, arrived_s, entered))

    def stall(self, seconds: float) -> None:
        """Let the worker do nothing for so long."""
        self._free_s = max(self._free_s, self.now_s) + seconds

    def latencies_s(self, since_s: float) -> list[float]:
        """Return how long what was accepted after ``since_s`` took."""
        return sorted(took for arrived, took in self.accepted_s if arrived >= since_s)


@pytest.mark.parametrize("service_s", [0.001, 0.003, 0.005])
def test_overload_leaves_what_is_accepted_fast_and_the_worker_busy(service_s: float) -> None:
    server = Server(service_s)
    server.offer(5 / service_s, seconds=20)
    latencies = server.latencies_s(since_s=1.0)
    assert latencies[int(0.99 * len(latencies))] <= PATIENCE_S + 3 * service_s
    assert len(latencies) >= 0.95 * 19 / service_s


def test_nothing_is_refused_below_capacity() -> None:
    server = Server(0.004)
    server.offer(200, seconds=20)
    assert server.refused == 0


def test_after_overload_nothing_is_refused_at_once_again() -> None:
    server = Server(0.004)
    server.offer(1_250, seconds=5)
    refused = server.refused
    assert refused > 0
    server.offer(150, seconds=0.1)
    before = server.refused
    server.offer(150, seconds=10)
    assert server.refused == before


def test_slow_reads_of_an_idle_process_are_no_overload() -> None:
    server = Server(0.001, busy=0.1)
    server.offer(100, seconds=20, waits_s=0.5)
    assert server.refused == 0


def test_few_requests_are_taken_on_however_slow_they_are() -> None:
    admission = Admission(floor=3, ceiling=10)
    assert all(admission.enter() for _ in range(3))


def test_ceiling_holds_before_anything_was_measured() -> None:
    admission = Admission(ceiling=10)
    assert [admission.enter() is not None for _ in range(12)] == [True] * 10 + [False] * 2


def test_a_stall_is_no_overload() -> None:
    server = Server(0.004)
    server.offer(100, seconds=5)
    for _ in range(5):
        server.stall(0.2)
        server.offer(100, seconds=2)
    assert server.refused == 0
