"""The read-out of an experiment: what each arm's figures are, how they differ, and what that means in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from bespoke.statistics.arm import Arm, Values
from bespoke.statistics.bayesian import Belief, Prior, belief, best_of
from bespoke.statistics.difference import Difference, Undefined, difference, holm, too_skewed
from bespoke.statistics.metric import Metric
from bespoke.statistics.sample_ratio import PLANNED, SampleRatio, sample_ratio
from bespoke.statistics.sequence import MIN_UNITS, AnytimeInterval, sequence
from bespoke.statistics.verdict import Verdict, verdict


@dataclass(frozen=True, slots=True)
class Column:
    """What each unit did, for one metric."""

    metric: Metric
    value_U: Values
    denominator_U: Values | None = None
    before_U: Values | None = None
    """The same before the unit's first exposure, to take out what could be foretold."""
    late_U: Values | None = None
    """What a unit did per day later on, less what it did per day at first: whether an effect wears off."""


@dataclass(frozen=True, slots=True)
class Units:
    """Everybody who was exposed. U units."""

    variants: tuple[str, ...]
    """Names, the control first."""
    variant_U: npt.NDArray[np.int64]
    """Which of them each unit got."""
    columns: tuple[Column, ...]
    cuts: Mapping[str, npt.NDArray[np.object_]] = field(default_factory=dict)
    """By what results are cut, such as surface: each unit's value, None where it has none."""

    def where(self, mask_U: npt.NDArray[np.bool_]) -> "Units":
        """Return some of the units."""

        def cut(values: Values | None) -> Values | None:
            return None if values is None else values[mask_U]

        columns = tuple(
            Column(one.metric, one.value_U[mask_U], cut(one.denominator_U), cut(one.before_U), cut(one.late_U))
            for one in self.columns
        )
        return Units(self.variants, self.variant_U[mask_U], columns)

    @property
    def counts(self) -> tuple[int, ...]:
        """Units by variant."""
        return tuple(np.bincount(self.variant_U, minlength=len(self.variants)).tolist())


@dataclass(frozen=True, slots=True)
class Plan:
    """What was meant beforehand."""

    shares: tuple[float, ...]
    """By variant."""
    planned_units: int = PLANNED
    """Of all arms, at the end."""
    confidence: float = 0.95
    once: bool = False
    """Whether this is the only look, at an experiment that is over: then intervals need not hold at others."""
    prior_sd: float | None = None
    """Of relative differences, for the Bayesian view; None: a flat prior."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One variant against the control, by one metric."""

    variant: str
    absolute: Difference
    relative: Difference | None
    """None where the control's value is 0."""
    sure: AnytimeInterval | None
    """What the verdict rests on: the relative difference (else the absolute one) with an interval that holds for all
    comparisons of metrics that decide, and at every look. None: too few units."""
    belief: Belief
    corrected_p: float
    """Of the fixed-horizon test, for all comparisons of metrics that decide."""
    variance_left: float | None
    """What adjusting for before has left of the variance; None: nothing was adjusted."""
    late: Difference | None
    """How the effect changes from the first days to later ones, per unit and day."""
    verdict: Verdict
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricReadout:
    """One metric in all arms."""

    metric: Metric
    arms: Mapping[str, Arm]
    best: Mapping[str, tuple[float, float]]
    """Probability to be the best arm of all, and the expected loss."""
    comparisons: tuple[Comparison, ...]
    problem: str = ""
    """Why there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Readout:
    """Everything that an experiment's units say."""

    variants: tuple[str, ...]
    units: Mapping[str, int]
    sample_ratio: SampleRatio
    metrics: tuple[MetricReadout, ...]
    cuts: Mapping[str, Mapping[str, "Readout"]] = field(default_factory=dict)
    """By cut and its value. Many cuts find something by chance: they suggest, and decide nothing."""


def read_out(units: Units, plan: Plan) -> Readout:
    """Return the read-out of everybody, and of each cut."""
    overall = _read_out(units, plan)
    cuts = {name: _cut(units, plan, values) for name, values in units.cuts.items()}
    return replace(overall, cuts=cuts)


def _cut(units: Units, plan: Plan, values_U: npt.NDArray[np.object_]) -> dict[str, Readout]:
    named = sorted({str(value) for value in values_U if value is not None})
    masks = ((name, np.array([value is not None and str(value) == name for value in values_U])) for name in named)
    return {name: _read_out(units.where(mask), plan) for name, mask in masks}


def _read_out(units: Units, plan: Plan) -> Readout:
    found = [_metric(units, column, plan) for column in units.columns]
    ratio = sample_ratio(units.counts, plan.shares, planned=plan.planned_units)
    counts = dict(zip(units.variants, units.counts, strict=True))
    return Readout(units.variants, counts, ratio, tuple(_corrected(found, plan, trusted=not ratio.mismatch)))


def _metric(units: Units, column: Column, plan: Plan) -> MetricReadout:
    metric, split = column.metric, _Split(units)
    try:
        arms = metric.arms(split(column.value_U), split.given(column.denominator_U), split.given(column.before_U))
        plain = metric.arms(split(column.value_U), split.given(column.denominator_U))
    except ValueError as error:
        return MetricReadout(metric, {}, {}, (), str(error))
    control, *others = arms
    comparisons, problems = [], []
    together = _together(units)
    for name, arm, unadjusted in zip(units.variants[1:], others, plain[1:], strict=True):
        try:
            one = _compared(name, control, arm, metric, plan, together=1 if metric.guardrail else together)
        except Undefined as error:
            problems.append(f"{name}: {error}")
            continue
        if column.before_U is not None:
            one = replace(one, variance_left=_left((control, arm), (plain[0], unadjusted)))
        comparisons.append(replace(one, late=_late(split, column, units.variants.index(name))))
    best = dict(zip(units.variants, best_of(arms, smaller_is_better=metric.smaller_is_better), strict=True))
    return MetricReadout(
        metric, dict(zip(units.variants, arms, strict=True)), best, tuple(comparisons), "; ".join(problems)
    )


@dataclass(frozen=True, slots=True)
class _Split:
    """Cuts a column into arms."""

    units: Units

    def __call__(self, values_U: Values) -> list[Values]:
        return [values_U[self.units.variant_U == n] for n in range(len(self.units.variants))]

    def given(self, values_U: Values | None) -> list[Values] | None:
        return None if values_U is None else self(values_U)


def _together(units: Units) -> int:
    """Return how many comparisons decide."""
    deciding = sum(not column.metric.guardrail for column in units.columns)
    return max(deciding * (len(units.variants) - 1), 1)


def _compared(name: str, control: Arm, arm: Arm, metric: Metric, plan: Plan, *, together: int) -> Comparison:
    absolute = difference(control, arm, confidence=plan.confidence)
    relative = None
    if control.relative_to > 0:
        relative = difference(control, arm, relative=True, confidence=plan.confidence)
    shown = relative or absolute
    sure = _sure(control, arm, shown, plan, confidence=1 - (1 - plan.confidence) / together)
    prior = None if plan.prior_sd is None or relative is None else Prior(plan.prior_sd)
    held = belief(shown, prior=prior, smaller_is_better=metric.smaller_is_better)
    warnings: tuple[str, ...] = ()
    if too_skewed(control, arm):
        warnings = (
            "a few units make up most of it: do not rely on the interval; cap the metric, or wait for more units",
        )
    said = verdict(metric, shown, sure, trusted=not warnings)
    return Comparison(name, absolute, relative, sure, held, absolute.p_value, None, None, said, warnings)


def _sure(control: Arm, arm: Arm, found: Difference, plan: Plan, *, confidence: float) -> AnytimeInterval | None:
    if plan.once:
        again = difference(control, arm, relative=found.relative, confidence=confidence)
        return AnytimeInterval(again.low, again.high, again.p_value)
    if min(control.units, arm.units) < MIN_UNITS:
        return None
    return sequence(found, units=control.units + arm.units, planned=plan.planned_units, confidence=confidence)


def _left(adjusted: tuple[Arm, Arm], plain: tuple[Arm, Arm]) -> float:
    before = sum(arm.squared_error for arm in plain)
    return sum(arm.squared_error for arm in adjusted) / before if before else 1.0


def _late(split: _Split, column: Column, variant: int) -> Difference | None:
    if column.late_U is None:
        return None
    parts = split(column.late_U)
    try:
        return difference(Arm.of(parts[0]), Arm.of(parts[variant]))
    except Undefined:
        return None


def _corrected(found: Sequence[MetricReadout], plan: Plan, *, trusted: bool) -> list[MetricReadout]:
    """Correct p-values over all comparisons of metrics that decide; where shares do not fit, no verdict stands."""
    deciding = [one for readout in found if not readout.metric.guardrail for one in readout.comparisons]
    corrected = iter(holm([one.absolute.p_value for one in deciding]))
    result = []
    for readout in found:
        comparisons = readout.comparisons
        if not readout.metric.guardrail:
            comparisons = tuple(replace(one, corrected_p=next(corrected)) for one in comparisons)
        if not trusted:
            told = Verdict(
                "untrusted", "units do not arrive in the shares that were set: find out why before anything else"
            )
            comparisons = tuple(replace(one, verdict=told) for one in comparisons)
        result.append(replace(readout, comparisons=comparisons))
    return result
