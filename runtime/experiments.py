"""Experiments of an installation: what is declared put in force, changes by hand, and how they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from bespoke.clock import to_ms
from bespoke.errors import ConfigError, NotFound, Unavailable
from bespoke.experiments import (
    FILE,
    HOLDOUT,
    Declared,
    Experiment,
    ExperimentState,
    Holdout,
    InForce,
    Phase,
    Start,
    Traffic,
    check_compatible,
    check_room,
    free_offset,
    load_declared,
    parse_states,
)
from storage.control import ControlStore
from storage.control_decisions import Change
from storage.serving_state import ServingState
from storage.settings import Settings
from storage.toml import read_text

States = Mapping[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How one experiment stands."""

    name: str
    status: str
    """running, waits, stopped, or declared: not started yet."""
    waits_for: tuple[str, ...] = ()
    """Pointers that name nothing."""
    state: ExperimentState | None = None
    phases: tuple[Phase, ...] = ()
    """Those that have begun, oldest first; the last one is in force, or was when it was stopped."""
    next: Phase | None = None
    """What the schedule begins next."""
    assigned: Mapping[tuple[str, int], int] | None = None
    """Units by variant and the phase they were assigned in; None: the serving state cannot be read."""

    @property
    def now(self) -> Phase | None:
        """The phase in force."""
        return self.phases[-1] if self.phases else None


def declared_in(settings: Settings) -> Declared:
    """Return what config/experiments.toml declares; nothing where there is no such file.

    Raises:
        ConfigError: it is wrong.
    """
    path = settings.config_dir / "experiments.toml"
    return load_declared(read_text(path)) if path.is_file() else Declared()


def put_in_force(settings: Settings, *, at: datetime) -> None:
    """Bring the control store to what is declared: start what starts with `up`, take over what changed, end the rest.

    What was stopped by hand stays stopped, until its salt changes or it is started by hand.

    Raises:
        ConfigError: a running experiment changed in what cannot change, or has no room in its layer.
    """
    declared = declared_in(settings)
    with ControlStore(settings.control_url) as control:
        in_force = control.experiments()
        for name in in_force.keys() - declared.experiments.keys() - {HOLDOUT}:
            control.end_experiment(name, by=FILE, at=at, reason="it is no longer declared")
        _put_holdout(control, declared, at=at)
        for name, experiment in declared.experiments.items():
            change = partial(_as_declared, experiment=experiment, at_ms=to_ms(at))
            action = "experiment.declare" if name in in_force else "experiment.start"
            control.change_experiment(name, change, action=action, by=FILE, at=at)


def start(settings: Settings, name: str, *, by: str, at: datetime, reason: str = "") -> ExperimentState:
    """Start a declared experiment; one that was stopped goes on where its salt is still the same.

    Raises:
        NotFound: it is not declared.
        ConfigError: it runs already, or has no room in its layer.
    """
    experiment = _declared(settings, name)

    def begin(states: States) -> dict[str, Any]:
        current = parse_states(states).experiments.get(name)
        if current is not None and current.running:
            raise ConfigError(f"experiment {name!r} runs already; `bespoke experiments status {name}` shows it")
        return _begun(experiment, states, by=by, reason=reason, at_ms=to_ms(at))

    return _change(settings, name, begin, action="experiment.start", by=by, at=at, reason=reason)


def ramp(
    settings: Settings,
    name: str,
    *,
    shares: Mapping[str, float],
    traffic: float | None = None,
    by: str,
    at: datetime,
    reason: str = "",
) -> ExperimentState:
    """Begin a phase with other shares; the variants that are not named keep their proportions in what is left.

    Raises:
        NotFound: it was never started.
        ConfigError: it is stopped, the shares cannot be, or its layer has no room.
    """

    def ramped(states: States) -> dict[str, Any]:
        in_force = parse_states(states)
        state = _running(in_force, name).ramped(at_ms=to_ms(at), by=by, reason=reason, shares=shares, traffic=traffic)
        check_room(state, _others(in_force, name), at_ms=to_ms(at))
        return state.model_dump(mode="json")

    return _change(settings, name, ramped, action="experiment.ramp", by=by, at=at, reason=reason)


def stop(settings: Settings, name: str, *, by: str, at: datetime, reason: str = "") -> ExperimentState:
    """Stop an experiment: from the replicas' next look on, everybody gets what they would get without it.

    Raises:
        NotFound: it does not run.
    """

    def stopped(states: States) -> dict[str, Any]:
        return _running(parse_states(states), name).stopped(at_ms=to_ms(at)).model_dump(mode="json")

    return _change(settings, name, stopped, action="experiment.stop", by=by, at=at, reason=reason)


def standing(settings: Settings, name: str | None = None, *, at: datetime) -> list[Standing]:
    """Return how experiments stand: all that are declared or in force, or one.

    Raises:
        NotFound: there is none of that name.
    """
    declared = declared_in(settings).experiments
    with ControlStore(settings.control_url) as control:
        states, pointers = parse_states(control.experiments()).experiments, control.pointers()
    names = sorted(declared.keys() | states.keys())
    if name is not None and name not in names:
        raise NotFound(f"no experiment {name!r}; there are: {', '.join(names) or 'none'}")
    counted = _counted(settings, {one: states[one] for one in ([name] if name else names) if one in states})
    named = {v.model for state in states.values() for v in state.definition.variants if "@" not in v.model}
    waiting = Traffic.of(states, unset=named - pointers.keys()).waiting
    return [
        _standing(one, states.get(one), waits_for=waiting.get(one, ()), assigned=counted.get(one), at_ms=to_ms(at))
        for one in ([name] if name else names)
    ]


def held_out(settings: Settings) -> Holdout | None:
    """Return the holdout that is in force."""
    with ControlStore(settings.control_url) as control:
        return parse_states(control.experiments()).holdout


def _standing(
    name: str,
    state: ExperimentState | None,
    *,
    waits_for: tuple[str, ...],
    assigned: Mapping[tuple[str, int], int] | None,
    at_ms: int,
) -> Standing:
    if state is None:
        return Standing(name, "declared", assigned={})
    status = "waits" if waits_for else state.status
    return Standing(name, status, waits_for, state, state.past(at_ms), state.next_phase(at_ms), assigned)


def _counted(settings: Settings, states: Mapping[str, ExperimentState]) -> dict[str, Mapping[tuple[str, int], int]]:
    try:
        with ServingState(settings.serving_url) as store:
            return {name: store.assigned(state.definition.key) for name, state in states.items()}
    except Unavailable:
        return {}


def _put_holdout(control: ControlStore, declared: Declared, *, at: datetime) -> None:
    wanted = None if declared.holdout is None else declared.holdout.model_dump(mode="json")
    if control.experiment(HOLDOUT) == wanted:
        return
    if wanted is None:
        control.end_experiment(HOLDOUT, by=FILE, at=at, reason="it is no longer declared")
    else:
        control.set_experiment(HOLDOUT, wanted, by=FILE, at=at)


def _as_declared(states: States, *, experiment: Experiment, at_ms: int) -> dict[str, Any] | None:
    in_force, name = parse_states(states), experiment.name
    current = in_force.experiments.get(name)
    if current is not None and current.running:
        state = current.redeclared(experiment, at_ms=at_ms, by=FILE)
        check_compatible([experiment, *(one.definition for one in _others(in_force, name))])
        check_room(state, _others(in_force, name), at_ms=at_ms)
        return state.model_dump(mode="json")
    stopped_by_hand = current is not None and current.definition.salt == experiment.salt
    if experiment.start is Start.BY_HAND or stopped_by_hand:
        return states.get(name)
    return _begun(experiment, states, by=FILE, reason="", at_ms=at_ms)


def _begun(experiment: Experiment, states: States, *, by: str, reason: str, at_ms: int) -> dict[str, Any]:
    in_force = parse_states(states)
    others, current = _others(in_force, experiment.name), in_force.experiments.get(experiment.name)
    check_compatible([experiment, *(one.definition for one in others)])
    before = current if current is not None and current.definition.key == experiment.key else None
    offset = free_offset(experiment, others, at_ms=at_ms)
    state = ExperimentState.begin(experiment, at_ms=at_ms, by=by, reason=reason, offset=offset, after=before)
    return state.model_dump(mode="json")


def _others(in_force: InForce, name: str) -> list[ExperimentState]:
    return [state for state in in_force.experiments.values() if state.running and state.name != name]


def _running(in_force: InForce, name: str) -> ExperimentState:
    state = in_force.experiments.get(name)
    if state is None or not state.running:
        running = [other.name for other in in_force.experiments.values() if other.running]
        raise NotFound(f"experiment {name!r} does not run; these do: {', '.join(sorted(running)) or 'none'}")
    return state


def _declared(settings: Settings, name: str) -> Experiment:
    declared = declared_in(settings).experiments
    if name not in declared:
        raise NotFound(f"no experiment {name!r} in {FILE}; there are: {', '.join(sorted(declared)) or 'none'}")
    return declared[name]


def _change(
    settings: Settings, name: str, change: Change, *, action: str, by: str, at: datetime, reason: str
) -> ExperimentState:
    with ControlStore(settings.control_url) as control:
        state = control.change_experiment(name, change, action=action, by=by, at=at, reason=reason)
    return ExperimentState.model_validate(state)
