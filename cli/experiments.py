"""Commands about experiments: start, ramp, stop, and how they stand."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import results

if TYPE_CHECKING:
    from bespoke.experiments import ExperimentState, Phase
    from runtime.experiments import Standing

app = typer.Typer(help="Experiments: who gets what, since when, what comes of it.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Name = Annotated[str, typer.Argument(help="An experiment of config/experiments.toml.")]
Reason = Annotated[str, typer.Option(help="Why, for the history.")]


@app.command()
def start(name: Name, reason: Reason = "", json: Json = False) -> None:
    """Start an experiment; one that was stopped goes on where its salt is still the same."""
    from datetime import UTC, datetime

    from runtime.experiments import start as start_one
    from storage.settings import Settings

    _say(start_one(Settings(), name, by=_user(), at=datetime.now(UTC), reason=reason), "runs", json=json)


@app.command()
def ramp(
    name: Name,
    share: Annotated[
        list[str] | None,
        typer.Option(help="VARIANT=SHARE from 0 to 1; repeatable. The others keep their proportions in what is left."),
    ] = None,
    traffic: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the layer that takes part.")] = None,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Begin a phase with other shares. It ends the declared ramp."""
    from datetime import UTC, datetime

    from runtime.experiments import ramp as ramp_one
    from storage.settings import Settings

    shares = dict(map(_share, share or ()))
    if not shares and traffic is None:
        raise typer.BadParameter("say what changes: --share VARIANT=SHARE or --traffic SHARE")
    state = ramp_one(Settings(), name, shares=shares, traffic=traffic, by=_user(), at=datetime.now(UTC), reason=reason)
    _say(state, "runs", json=json)


@app.command()
def stop(name: Name, reason: Reason = "", json: Json = False) -> None:
    """Stop an experiment: everybody gets what they would get without it, within seconds."""
    from datetime import UTC, datetime

    from runtime.experiments import stop as stop_one
    from storage.settings import Settings

    _say(stop_one(Settings(), name, by=_user(), at=datetime.now(UTC), reason=reason), "is stopped", json=json)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="An experiment; all of them by default.")] = None,
    json: Json = False,
) -> None:
    """Show what runs, its phases, what comes next or what it waits for, and how many units are assigned."""
    from datetime import UTC, datetime

    from cli.output import print_json, print_table
    from runtime.experiments import held_out, standing
    from storage.settings import Settings

    found, holdout = standing(Settings(), name, at=datetime.now(UTC)), held_out(Settings())
    if json:
        held = None if holdout is None else holdout.model_dump(mode="json")
        print_json({"experiments": [_standing(one) for one in found], "holdout": held})
        return
    print_table(("experiment", "status", "phase", "traffic", "shares", "next", "assigned"), map(_row, found))
    if holdout is not None:
        typer.echo(f"holdout: {holdout.share:g} of all units are in no experiment")
    for one in found if name else ():
        print_table(("phase", "from", "traffic", "shares", "by", "why"), map(_phase_row, one.phases), title="phases")


results.add_to(app)


def _say(state: "ExperimentState", what: str, *, json: bool) -> None:
    from cli.output import print_json

    phase = state.phases[-1]
    if json:
        print_json({"experiment": state.name, "status": state.status, "phase": _phase(phase)})
    else:
        typer.echo(f"{state.name} {what}; phase {phase.number}: {_shares(phase)} of {phase.traffic:g} of its layer")


def _share(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share; write one such as challenger=0.2") from None


def _standing(one: "Standing") -> dict[str, Any]:
    state = one.state
    return {
        "name": one.name,
        "status": one.status,
        "waitsFor": list(one.waits_for),
        "startedAt": None if state is None else _time(state.started_ms),
        "stoppedAt": None if state is None else _time(state.stopped_ms),
        "phase": None if one.now is None else _phase(one.now),
        "next": None if one.next is None else _phase(one.next),
        "phases": [_phase(phase) for phase in one.phases],
        "assigned": None if one.assigned is None else _assigned(one),
    }


def _assigned(one: "Standing") -> list[dict[str, Any]]:
    assigned = one.assigned or {}
    return [{"variant": variant, "phase": phase, "units": n} for (variant, phase), n in assigned.items()]


def _row(one: "Standing") -> tuple[Any, ...]:
    status = f"waits for {', '.join(one.waits_for)}" if one.waits_for else one.status
    coming = None if one.next is None else f"{_time(one.next.at_ms)}: {_shares(one.next)}"
    now = (None, None, None) if one.now is None else (one.now.number, one.now.traffic, _shares(one.now))
    return (one.name, status, *now, coming, _units(one))


def _units(one: "Standing") -> str | None:
    if one.assigned is None:
        return "not known: the serving state cannot be read"
    counts: dict[str, int] = {}
    for (variant, _), n in one.assigned.items():
        counts[variant] = counts.get(variant, 0) + n
    return ", ".join(f"{variant} {n}" for variant, n in counts.items()) or None


def _phase_row(phase: "Phase") -> tuple[Any, ...]:
    return (phase.number, _time(phase.at_ms), phase.traffic, _shares(phase), phase.by, phase.reason or None)


def _phase(phase: "Phase") -> dict[str, Any]:
    return {
        "number": phase.number,
        "at": _time(phase.at_ms),
        "shares": phase.shares,
        "traffic": phase.traffic,
        "by": phase.by,
        "reason": phase.reason,
    }


def _shares(phase: "Phase") -> str:
    return ", ".join(f"{name} {share:g}" for name, share in phase.shares.items())


def _time(ms: int | None) -> str | None:
    from bespoke.clock import from_ms

    return None if ms is None else from_ms(ms).isoformat(timespec="seconds")


def _user() -> str:
    from getpass import getuser

    return getuser()
