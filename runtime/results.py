"""What experiments say, and what they would need: read-outs and plans of one installation."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import ConfigError, NotFound
from bespoke.experiments import ExperimentState, parse_state
from bespoke.statistics.arm import Arm
from bespoke.statistics.declared import FILE, DeclaredMetric
from bespoke.statistics.planning import detectable_effect, units_needed
from monitoring.populations import Population, population
from monitoring.readouts import ExperimentReadout, experiment_readout
from monitoring.shadows import ShadowReadout, shadow_readouts
from storage.control import ControlStore
from storage.lake import Lake
from storage.metrics_file import declared_metrics
from storage.settings import Settings


def metrics_in(settings: Settings, names: Sequence[str] = ()) -> list[DeclaredMetric]:
    """Return the metrics that config/metrics.toml declares; those of ``names`` where any are named.

    Raises:
        ConfigError: the file is wrong or missing.
        NotFound: a name is not declared.
    """
    declared = declared_metrics(settings.config_dir)
    if not declared:
        raise ConfigError(f"{FILE} declares nothing; say there what experiments are to be judged by")
    for name in names:
        if name not in declared:
            raise NotFound(f"no metric {name!r} in {FILE}; there are: {', '.join(declared) or 'none'}")
    return [declared[name] for name in names or declared]


def results(
    settings: Settings, name: str, *, at: datetime, metrics: Sequence[str] = (), control: str | None = None
) -> ExperimentReadout:
    """Return the read-out of an experiment that runs or ran.

    Raises:
        NotFound: it was never started, or there is no such metric or variant.
    """
    state, chosen = _state(settings, name), metrics_in(settings, metrics)
    _check_control(state, control)
    return experiment_readout(Lake(settings.lake_dir), state, chosen, at_ms=to_ms(at), control=control)


def shadows(settings: Settings, name: str, *, at: datetime) -> list[ShadowReadout]:
    """Return what an experiment's shadows would have brought, for each event that metrics join by recommendation.

    Raises:
        NotFound: the experiment was never started.
    """
    events = {metric.event for metric in metrics_in(settings) if metric.joined == "recommendation"}
    return shadow_readouts(Lake(settings.lake_dir), _state(settings, name), sorted(events), at_ms=to_ms(at))


def _state(settings: Settings, name: str) -> ExperimentState:
    with ControlStore(settings.control_url) as store:
        states = store.experiments()
    if name not in states:
        raise NotFound(f"experiment {name!r} was never started; these were: {', '.join(sorted(states)) or 'none'}")
    return parse_state(name, states[name])


def _check_control(state: ExperimentState, control: str | None) -> None:
    answering = [variant.name for variant in state.definition.variants if not variant.shadow]
    if control is not None and control not in answering:
        raise NotFound(
            f"experiment {state.name!r}: no variant {control!r} that answers; there are: {', '.join(answering)}"
        )


@dataclass(frozen=True, slots=True)
class Needed:
    """What an experiment on one metric would need."""

    metric: DeclaredMetric
    value: float
    """The metric as it is."""
    effect: float
    """The difference to be found, in the metric's units."""
    units: int
    """Of all variants."""
    days: float
    """Until so many have come, and their time for outcomes is over."""
    effect_in_days: tuple[tuple[int, float], ...]
    """What can be found after 1, 2, 4 and 8 weeks, relative."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """What experiments on people as they come now would need."""

    population: Population
    needed: tuple[Needed, ...]


def plan(
    settings: Settings,
    *,
    effect: float,
    at: datetime,
    days: int = 28,
    metrics: Sequence[str] = (),
    shares: Sequence[float] = (0.5, 0.5),
    traffic: float = 1.0,
    power: float = 0.8,
) -> ExperimentPlan:
    """Return sizes and durations, from the people of the last days and what they did.

    Args:
        settings: the installation.
        effect: what is to be found, relative to each metric's value, such as 0.05.
        at: the end of the days that are looked at.
        days: how many.
        metrics: names; all by default.
        shares: of the variants, the control first.
        traffic: share of people who take part.
        power: chance of finding the effect, 0..1.
    """
    chosen = metrics_in(settings, metrics)
    until_ms = to_ms(at)
    since_ms = to_ms(at - timedelta(days=days))
    found = population(Lake(settings.lake_dir), chosen, since_ms=since_ms, until_ms=until_ms)
    each = [_needed(found, one, effect=effect, shares=shares, traffic=traffic, power=power) for one in chosen]
    return ExperimentPlan(found, tuple(each))


def _needed(
    found: Population, metric: DeclaredMetric, *, effect: float, shares: Sequence[float], traffic: float, power: float
) -> Needed:
    try:
        (arm,) = found.arms(metric)
        if not arm.value or not arm.variance:
            raise ValueError(f"nobody of {arm.units} people did any of it")
    except ValueError as error:
        return Needed(metric, 0.0, 0.0, 0, np.inf, (), str(error))
    absolute = abs(effect * arm.value)
    units = units_needed(variance=arm.variance, effect=absolute, shares=shares, power=power)
    days = found.days_until(units / traffic) + metric.window_ms / DAY_MS
    later = tuple((n, _found_in(n, found, arm, metric, shares, traffic, power)) for n in (7, 14, 28, 56))
    return Needed(metric, arm.value, absolute, units, days, later)


def _found_in(
    days: int,
    found: Population,
    arm: Arm,
    metric: DeclaredMetric,
    shares: Sequence[float],
    traffic: float,
    power: float,
) -> float:
    units = int(found.people_in(max(days - metric.window_ms / DAY_MS, 0)) * traffic)
    return detectable_effect(variance=arm.variance, units=units, shares=shares, power=power) / abs(arm.value)
