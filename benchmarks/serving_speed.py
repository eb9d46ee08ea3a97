"""How fast the full pipeline answers: for one client alone, and how many requests in all beside two yardsticks.

The yardsticks, in the same run: a constant FastAPI route on the same ingress, asked in turns with the pipeline, and the
same application behind Serve's default proxy.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Figures
from benchmarks.serving_answers import Answers, answers
from benchmarks.serving_site import COLLECTOR_REPLICA, CONSTANT_REPLICA, Running, cpu_s, running

REQUESTS = 2_000
WARM_UP = 500
CLIENTS = 16
TURNS = 3
TURN_S = 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long everything goes on: 1 as published, less for a try."""

    scale: float = 1.0
    replicas: int = 1
    """Of the recommender, where a part does not say itself."""

    def seconds(self, seconds: float) -> float:
        """Return a time at this pace."""
        return seconds * self.scale

    def count(self, count: int, *, least: int = 1) -> int:
        """Return a number of things at this pace."""
        return max(least, round(count * self.scale))


def latency(home: Path, pace: Pace) -> Figures:
    """Measure one client that asks one request after the other."""
    with running(home, replicas=pace.replicas) as found:
        return one_client(found, pace)


def one_client(found: Running, pace: Pace) -> dict[str, float]:
    """Measure one client on an installation that runs: milliseconds, and CPU time of each part per request."""
    found.warm_up(WARM_UP)
    parts = {
        "cpu_ms": found.replicas(),
        "cpu_ms_haproxy": found.haproxies(),
        "cpu_ms_collector": found.replicas(COLLECTOR_REPLICA),
    }
    before = {name: cpu_s(processes) for name, processes in parts.items()}
    got = answers(found.plan(clients=1, requests=pace.count(REQUESTS, least=100)))
    cpu = {name: (cpu_s(processes) - before[name]) / len(got.status) * 1_000 for name, processes in parts.items()}
    return {
        "p50_ms": got.percentile_ms(50),
        "p99_ms": got.percentile_ms(99),
        **cpu,
        "latency_failed": got.failed,
        "latency_degraded": sum(got.degraded.values()),
        "latency_skipped": got.skipped,
    }


def throughput(home: Path, pace: Pace) -> Figures:
    """Measure sixteen clients, in turns with the constant route; then on the default proxy."""
    with running(home, replicas=pace.replicas, constant=True) as found:
        figures = in_turns(found, pace)
    with running(home, replicas=pace.replicas, haproxy=False) as found:
        default = _many(found, pace)
    return {
        **figures,
        "per_s_default_proxy": default.per_s,
        "ratio_to_default_proxy": figures["per_s"] / default.per_s,
    }


def in_turns(found: Running, pace: Pace) -> dict[str, float]:
    """Ask pipeline and constant route in turns, so that what else the machine does falls on both."""
    found.warm_up(WARM_UP)
    answers(found.constant_plan(clients=CLIENTS, duration_s=1.0))
    turns = [(_many(found, pace, seed=turn), _constant(found, pace)) for turn in range(TURNS)]
    pipeline, constant = (statistics.median(turn[side].per_s for turn in turns) for side in (0, 1))
    asked = [turn[0] for turn in turns]
    return {
        "per_s": pipeline,
        "per_s_constant_route": constant,
        "ratio_to_constant_route": statistics.median(mine.per_s / other.per_s for mine, other in turns),
        "p50_ms@16": statistics.median(each.percentile_ms(50) for each in asked),
        "p99_ms@16": statistics.median(each.percentile_ms(99) for each in asked),
        "throughput_failed": sum(each.failed for each in asked),
        "throughput_refused": sum(each.refused for each in asked),
        "constant_processes": len(found.replicas(CONSTANT_REPLICA)),
    }


def _many(found: Running, pace: Pace, *, seed: int = 0) -> Answers:
    return answers(found.plan(clients=CLIENTS, duration_s=pace.seconds(TURN_S), seed=seed))


def _constant(found: Running, pace: Pace) -> Answers:
    return answers(found.constant_plan(clients=CLIENTS, duration_s=pace.seconds(TURN_S)))
