"""What jobs do, by kind: functions of the installation, the arguments and the time; what they return is kept."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from bespoke.clock import duration_ms, to_ms
from bespoke.errors import ConfigError, NotFound
from bespoke.experiments import CHAMPION, ExperimentState, parse_state, parse_states
from storage.control import ControlStore
from storage.settings import Settings
from storage.sql import Superseded

BY = "job"
Arguments = Mapping[str, Any]
RunJob = Callable[[Settings, Arguments, datetime], Any]


def run_job(settings: Settings, kind: str, arguments: Arguments, *, at: datetime) -> Any:
    """Do a job; return what JSON can carry.

    Raises:
        ConfigError: no job is called so, or it cannot be done with these arguments.
    """
    if kind not in JOBS:
        raise ConfigError(f"no job is called {kind!r}; there are: {', '.join(JOBS)}")
    return JOBS[kind](settings, arguments, at)


def _drift(settings: Settings, arguments: Arguments, at: datetime) -> Any:
    from runtime.reports import observe_drift

    return observe_drift(settings, model=str(arguments.get("model", CHAMPION)), at=at)


def _alerts(settings: Settings, _: Arguments, at: datetime) -> Any:
    from runtime.alerts import look

    return look(settings, at=at)


def _readouts(settings: Settings, _: Arguments, at: datetime) -> Any:
    """Read out all that runs, and keep the intervals, so that their development can be shown."""
    from monitoring.console.data import observations_of
    from monitoring.readouts import experiment_readout
    from runtime.results import metrics_in
    from storage.lake import Lake

    metrics, lake, kept = metrics_in(settings), Lake(settings.lake_dir), 0
    with ControlStore(settings.control_url) as control:
        for state in parse_states(control.experiments()).experiments.values():
            if state.running:
                found = observations_of(experiment_readout(lake, state, metrics, at_ms=to_ms(at), cuts=False), at=at)
                control.observe(found)
                kept += len(found)
    return {"kept": kept}


def _retrain(settings: Settings, arguments: Arguments, at: datetime) -> Any:
    """Train a candidate on the newest window; where the gate lets it through, a pointer names it.

    An experiment that waits for that pointer, or runs with it, takes it from there: its shadow and its ramp.
    """
    from runtime.train import train_with_report
    from training.train import TrainRequest

    kinds = tuple(arguments.get("models", ("auto",)))
    window = timedelta(milliseconds=duration_ms(str(arguments.get("window", "30 days"))))
    promote = arguments.get("promote", "challenger")
    request = TrainRequest(kinds, at, window, None, 0, False, False, None)
    done = train_with_report(request, settings, promote=promote, report=True, quiet=True)
    return {**done.as_json(), "because": arguments.get("because")}


def _roll_back(settings: Settings, arguments: Arguments, at: datetime) -> Any:
    """Point what names a version at the one before: the champion, or whatever names the version ``subject``.

    Where nothing names that version any more, somebody was faster, and nothing is done.
    """
    subject, reason = arguments.get("subject"), str(arguments.get("because", ""))
    done = {}
    with ControlStore(settings.control_url) as control:
        if not subject:
            pointer = str(arguments.get("pointer", CHAMPION))
            return {pointer: control.rollback_pointer(pointer, by=BY, reason=reason, at=at)}
        for pointer in [name for name, version in control.pointers().items() if version == subject]:
            with suppress(Superseded):
                done[pointer] = control.rollback_pointer(pointer, by=BY, reason=reason, at=at, expected=str(subject))
    return done


def _stop_variant(settings: Settings, arguments: Arguments, at: datetime) -> Any:
    """Give a variant's share to the control."""
    return _share(settings, arguments, at, lambda state, variant: {variant: 0.0, _control(state, variant): None})


def _ramp_up(settings: Settings, arguments: Arguments, at: datetime) -> Any:
    """Double a variant's share; the control keeps a tenth of its own at least."""

    def doubled(state: ExperimentState, variant: str) -> dict[str, float | None]:
        now = state.phase_at(to_ms(at)).shares[variant]
        control = _control(state, variant)
        left = state.phase_at(to_ms(at)).shares[control]
        return {variant: min(2 * now, now + 0.9 * left), control: None}

    return _share(settings, arguments, at, doubled)


def _share(
    settings: Settings,
    arguments: Arguments,
    at: datetime,
    change: Callable[[ExperimentState, str], dict[str, float | None]],
) -> Any:
    from runtime.experiments import ramp

    name, _, variant = str(arguments.get("subject", "")).partition("/")
    with ControlStore(settings.control_url) as control:
        states = control.experiments()
    if name not in states:
        raise NotFound(f"no experiment {name!r} is in force; there are: {', '.join(sorted(states)) or 'none'}")
    state = parse_state(name, states[name])
    now = state.phase_at(to_ms(at)).shares
    if variant not in now:
        raise NotFound(f"experiment {name!r}: no variant {variant!r} that answers; there are: {', '.join(now)}")
    wanted = change(state, variant)
    # The control takes or gives what the variant does; the others keep theirs.
    gap = sum(share - now[each] for each, share in wanted.items() if share is not None)
    shares = {each: now[each] - gap if share is None else share for each, share in wanted.items()}
    if all(share == now[each] for each, share in shares.items()):
        # It is so already: another phase would say nothing.
        return {"experiment": name, "shares": now}
    done = ramp(settings, name, shares=shares, by=BY, at=at, reason=str(arguments.get("because", "")))
    return {"experiment": name, "shares": done.phases[-1].shares}


def _control(state: ExperimentState, variant: str) -> str:
    names = [one.name for one in state.definition.variants if not one.shadow and one.name != variant]
    if not names:
        raise ConfigError(f"experiment {state.name!r} has no other variant that answers; stop the experiment")
    return names[0]


QUICK = frozenset({"alerts", "roll_back", "stop_variant", "ramp_up"})
"""Kinds that never wait behind the others: a report that hangs must not keep alerts from saying so."""

JOBS: Mapping[str, RunJob] = {
    "drift": _drift,
    "alerts": _alerts,
    "readouts": _readouts,
    "retrain": _retrain,
    "roll_back": _roll_back,
    "stop_variant": _stop_variant,
    "ramp_up": _ramp_up,
}
