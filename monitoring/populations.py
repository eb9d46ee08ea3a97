"""Who comes, how many new faces a day, and what they do: what an experiment is planned on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS
from bespoke.experiments import Unit
from bespoke.statistics.arm import Arm, Values
from bespoke.statistics.declared import DeclaredMetric
from storage.exposures import Question, exposures
from storage.lake import Lake


@dataclass(frozen=True, slots=True)
class Population:
    """The people of some days."""

    since_ms: int
    until_ms: int
    new_D: npt.NDArray[np.int64]
    """People seen for the first time of these days, by day."""
    columns: Mapping[str, tuple[Values, Values | None]]
    """By metric: what each did within its window, and what that is taken of; only people whose window is over."""

    def arms(self, metric: DeclaredMetric) -> list[Arm]:
        """Return a metric of these people, as one arm.

        Raises:
            ValueError: it cannot be computed of them.
        """
        value_U, denominator_U = self.columns[metric.name]
        return metric.arms([value_U], None if denominator_U is None else [denominator_U])

    def people_in(self, days: float) -> float:
        """Return how many different people come within so many days; beyond those seen, as many a day as at the end."""
        seen_D = np.concatenate([[0], np.cumsum(self.new_D)])
        if days <= len(self.new_D):
            return float(np.interp(days, np.arange(len(seen_D)), seen_D))
        return float(seen_D[-1] + (days - len(self.new_D)) * self._late)

    def days_until(self, people: float) -> float:
        """Return in how many days so many different people have come; infinite where nobody comes any more."""
        seen_D = np.concatenate([[0], np.cumsum(self.new_D)])
        if people <= seen_D[-1]:
            return float(np.interp(people, seen_D, np.arange(len(seen_D))))
        return len(self.new_D) + (people - float(seen_D[-1])) / self._late if self._late else np.inf

    @property
    def _late(self) -> float:
        """New people a day in the last quarter."""
        return float(self.new_D[-max(len(self.new_D) // 4, 1) :].mean()) if len(self.new_D) else 0.0


def population(lake: Lake, metrics: Sequence[DeclaredMetric], *, since_ms: int, until_ms: int) -> Population:
    """Return the people of an interval and what they did after they were first seen in it.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    everybody = Question(None, Unit.PERSON, since_ms, until_ms, phases=(0,), before_ms=0)
    with exposures(lake, everybody) as found:
        at_U = found.units["at_ms"].to_numpy()
        days = max(int(np.ceil((until_ms - since_ms) / DAY_MS)), 1)
        new_D = np.bincount((at_U - since_ms) // DAY_MS, minlength=days)
        columns = {}
        for metric in metrics:
            whole_U = at_U + metric.window_ms <= until_ms
            value_U = found.sums(metric.counted, from_ms=0, to_ms=metric.window_ms)[whole_U]
            denominator_U = None
            if metric.denominator is not None:
                denominator_U = found.sums(metric.denominator, from_ms=0, to_ms=metric.window_ms)[whole_U]
            columns[metric.name] = value_U, denominator_U
    return Population(since_ms, until_ms, new_D, columns)
