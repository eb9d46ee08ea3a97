"""Load as a benchmark uses it: started beside the services, stopped, and what came of it as figures."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from benchmarks.serving_load import ACCEPTED, REFUSED, Plan, encoded


@dataclass(frozen=True)
class Answers:
    """What came of the requests of one load. Times are those of the monotonic clock."""

    due_s: npt.NDArray[np.float64]
    done_s: npt.NDArray[np.float64]
    status: npt.NDArray[np.int64]
    without_retry_after: int = 0
    mixed: int = 0
    """Lists whose items and modelVersion do not belong together."""
    bad: int = 0
    """200s that are no whole answer: an unknown item, one twice, no recommendationId."""
    marked: int = 0
    """Lists that hold an item which only one version knows."""
    skipped: int = 0
    """Lists that a stage is missing from, because it was late."""
    versions: dict[str, int] = field(default_factory=dict)
    degraded: dict[str, int] = field(default_factory=dict)
    acknowledged: tuple[str, ...] = ()
    """messageIds of events that were taken in."""

    @property
    def accepted(self) -> npt.NDArray[np.bool_]:
        """Which were answered."""
        accepted: npt.NDArray[np.bool_] = self.status == ACCEPTED
        return accepted

    @property
    def took_ms(self) -> npt.NDArray[np.float64]:
        """From when a request was due until its answer was whole."""
        return (self.done_s - self.due_s) * 1_000

    @property
    def failed(self) -> int:
        """How many were not answered well."""
        return int((~self.accepted).sum()) + self.bad

    @property
    def refused(self) -> int:
        """How many of those were refused for want of time; without load on the edge of capacity, none."""
        return int(np.isin(self.status, REFUSED).sum())

    @property
    def per_s(self) -> float:
        """Answers per second, over the time between the first request and the last answer."""
        return float(self.accepted.sum() / (self.done_s.max() - self.due_s.min()))

    def percentile_ms(self, percent: float, *, since_s: float = -np.inf, until_s: float = np.inf) -> float:
        """Return a percentile of the answered ones that were due within an interval; infinite where there are none."""
        within = self.accepted & (self.due_s >= since_s) & (self.due_s < until_s)
        return float(np.percentile(self.took_ms[within], percent)) if within.any() else float("inf")

    def statuses(self) -> dict[int, int]:
        """Return how many there were of each status; 0 stands for no answer."""
        return dict(zip(*(each.tolist() for each in np.unique(self.status, return_counts=True)), strict=True))


class Load:
    """A load that runs."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving_load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._process.stdin.write(encoded(plan))
        self._process.stdin.flush()

    def finish(self) -> Answers:
        """Have it end where it would go on for ever; return what came of it once it has ended.

        Raises:
            RuntimeError: it failed.
        """
        found, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"the load generator ended with status {self._process.returncode}")
        return _answers(found)

    def kill(self) -> None:
        """Leave nothing of it behind."""
        self._process.kill()
        self._process.wait()


def _answers(found: bytes) -> Answers:
    fields: dict[str, Any] = orjson.loads(found)
    for name in ("due_s", "done_s"):
        fields[name] = np.array(fields[name], dtype=np.float64)
    fields["status"] = np.array(fields["status"], dtype=np.int64)
    return Answers(**{**fields, "acknowledged": tuple(fields["acknowledged"])})


@contextmanager
def loading(plan: Plan) -> Iterator[Load]:
    """Run a load while the context is open; call ``finish`` in it."""
    load = Load(plan)
    try:
        yield load
    finally:
        load.kill()


def answers(plan: Plan) -> Answers:
    """Run a load that ends by itself."""
    with loading(plan) as load:
        return load.finish()
