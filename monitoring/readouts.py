"""The read-out of a running or ended experiment, from what the lake holds of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from bespoke.clock import DAY_MS
from bespoke.experiments import ExperimentState, Phase
from bespoke.statistics.declared import DeclaredMetric
from bespoke.statistics.readout import Column, Plan, Readout, Units, read_out
from bespoke.statistics.sample_ratio import PLANNED
from storage.exposures import BEFORE_MS, Exposures, Question, exposures
from storage.lake import Lake

CROSSED_ALARM = 0.01
"""More units than that in two variants: something is wrong with who is who, or with what is logged."""
CUTS = ("surface", "channel")
MIN_DAYS = 7
"""A week at least: weekdays differ."""


@dataclass(frozen=True, slots=True)
class ExperimentReadout:
    """The read-out of an experiment, and what stands in the way of trusting it."""

    experiment: str
    phases: tuple[int, ...]
    """The phases whose newcomers are read: those with the same shares that brought the most units."""
    since_ms: int
    until_ms: int
    readout: Readout
    crossed: int
    """Units seen in two variants; they are left out."""
    by_view: bool
    """Whether exposures are what clients say was seen."""
    warnings: tuple[str, ...]


def experiment_readout(
    lake: Lake,
    state: ExperimentState,
    metrics: Sequence[DeclaredMetric],
    *,
    at_ms: int,
    control: str | None = None,
    planned_units: int = PLANNED,
    confidence: float = 0.95,
    cuts: bool = True,
) -> ExperimentReadout:
    """Return what an experiment says by ``at_ms``.

    Units of different shares are never pooled: whoever came while a variant had a tenth is not who came while it had
    half. The phases of equal shares that brought the most units are read.

    Args:
        lake: exposures and outcomes.
        state: the experiment, in force or ended.
        metrics: what to read out, in this order.
        at_ms: events before it count.
        control: what the others are held against; the first variant that answers if absent.
        planned_units: of all variants, at the planned end.
        confidence: of intervals and verdicts, 0..1.
        cuts: whether to read out surfaces and channels too.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    until_ms = min(at_ms, state.stopped_ms + _longest(metrics)) if state.stopped_ms is not None else at_ms
    block, crossed, by_view, units = _largest(lake, state, metrics, until_ms=until_ms, control=control, cuts=cuts)
    shares = tuple(block[-1].shares.get(name, 0.0) for name in units.variants)
    readout = read_out(units, Plan(shares, planned_units, confidence))
    found = sum(readout.units.values())
    warnings = _warnings(readout, crossed=crossed, found=found, days=(until_ms - block[0].at_ms) / DAY_MS)
    numbers = tuple(phase.number for phase in block)
    return ExperimentReadout(state.name, numbers, block[0].at_ms, until_ms, readout, crossed, by_view, warnings)


def _longest(metrics: Sequence[DeclaredMetric]) -> int:
    return max((metric.window_ms for metric in metrics), default=0)


def _largest(
    lake: Lake,
    state: ExperimentState,
    metrics: Sequence[DeclaredMetric],
    *,
    until_ms: int,
    control: str | None,
    cuts: bool,
) -> tuple[list[Phase], int, bool, Units]:
    """Return the phases of equal shares with the most units, and those units."""
    best: tuple[list[Phase], int, bool, Units] | None = None
    for block in blocks(state, until_ms=until_ms):
        question = Question(
            state.name, state.definition.unit, block[0].at_ms, until_ms, [phase.number for phase in block]
        )
        with exposures(lake, question) as found:
            if best is None or found.units.num_rows > len(best[3].variant_U):
                variants = _variants(state, control)
                best = block, found.crossed, found.by_view, units_of(found, variants, metrics, cuts=cuts)
    assert best is not None, "an experiment in force has a phase"
    return best


def blocks(state: ExperimentState, *, until_ms: int) -> list[list[Phase]]:
    """Return the phases that have begun, those that follow one another with equal shares together."""
    begun = [phase for phase in state.timeline if phase.at_ms < until_ms] or [state.timeline[0]]
    return [list(group) for _, group in groupby(begun, key=lambda phase: sorted(phase.shares.items()))]


def _variants(state: ExperimentState, control: str | None) -> tuple[str, ...]:
    names = [variant.name for variant in state.definition.variants if not variant.shadow]
    first = names[0] if control is None else control
    return (first, *(name for name in names if name != first))


def units_of(
    found: Exposures, variants: tuple[str, ...], metrics: Sequence[DeclaredMetric], *, cuts: bool = False
) -> Units:
    """Return an experiment's units with their columns; those of variants that it does not have are left out."""
    number_of = {name: number for number, name in enumerate(variants)}
    variant_U = np.array([number_of.get(name, -1) for name in found.units["variant"].to_pylist()], dtype=np.int64)
    columns = tuple(_column(found, metric) for metric in metrics)
    cut = {name: found.units[name].to_numpy() for name in CUTS} if cuts else {}
    units = Units(variants, variant_U, columns, _worth_it(cut))
    return units if (variant_U >= 0).all() else units.where(variant_U >= 0)


def _worth_it(cuts: Mapping[str, npt.NDArray[np.object_]]) -> dict[str, npt.NDArray[np.object_]]:
    """Return the cuts that tell units apart."""
    return {name: values for name, values in cuts.items() if len({v for v in values if v is not None}) > 1}


def _column(found: Exposures, metric: DeclaredMetric) -> Column:
    counted, window_ms = metric.counted, metric.window_ms
    value_U = found.sums(counted, from_ms=0, to_ms=window_ms)
    before_U = found.sums(counted, from_ms=-BEFORE_MS, to_ms=0) if counted.joined == "person" else None
    denominator_U = None
    if metric.denominator is not None:
        denominator_U = found.sums(metric.denominator, from_ms=0, to_ms=window_ms)
    half = window_ms // 2
    first_U = found.sums(counted, from_ms=0, to_ms=half)
    late_U = (value_U - 2 * first_U) / (half / DAY_MS)
    return Column(metric, value_U, denominator_U, before_U, late_U)


def _warnings(readout: Readout, *, crossed: int, found: int, days: float) -> tuple[str, ...]:
    told = []
    if not found:
        told.append("nobody was exposed yet")
    if readout.sample_ratio.mismatch:
        told.append(readout.sample_ratio.words)
    if crossed > CROSSED_ALARM * (found + crossed):
        told.append(f"{crossed} of {found + crossed} units saw two variants; more than {CROSSED_ALARM:.0%} is an alarm")
    if 0 < days < MIN_DAYS:
        told.append(f"it has run for {days:.1f} days; let it run for {MIN_DAYS}, since weekdays differ")
    return tuple(told)
