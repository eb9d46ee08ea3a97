"""Commands that read experiments out: running ones, planned ones, and anybody's file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bespoke.statistics.readout import Comparison, MetricReadout, Readout

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Metrics = Annotated[list[str] | None, typer.Option("--metric", help="A metric of config/metrics.toml; repeatable.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to a group."""
    for command in (results, plan, analyze):
        app.command()(command)


def results(
    name: Annotated[str, typer.Argument(help="An experiment that runs or ran.")],
    metric: Metrics = None,
    control: Annotated[str | None, typer.Option(help="What others are held against; the first variant.")] = None,
    json: Json = False,
) -> None:
    """Show what an experiment says so far; look as often as you like."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from cli.output import print_json
    from runtime.results import results as read
    from runtime.results import shadows
    from storage.settings import Settings

    at, settings = datetime.now(UTC), Settings()
    found = read(settings, name, at=at, metrics=metric or (), control=control)
    beside = shadows(settings, name, at=at)
    if json:
        plain = {key: value for key, value in asdict(found).items() if key != "readout"}
        print_json({**plain, **_plain(found.readout), "shadows": [asdict(one) for one in beside]})
        return
    phases = ", ".join(map(str, found.phases))
    typer.echo(f"{name}: phases {phases}, exposure is what was {'viewed' if found.by_view else 'served'}")
    _print(found.readout)
    if found.crossed:
        typer.echo(f"{found.crossed} units saw two variants and are left out")
    for warning in found.warnings:
        typer.secho(f"attention: {warning}", fg="yellow")
    for one in beside:
        estimate = one.estimated
        told = f"{estimate.value:.4f} per place ({estimate.low:.4f} to {estimate.high:.4f})"
        typer.echo(f"shadow {one.variant}: {one.event} would be {told}; what was shown has {one.shown:.4f}")
        for warning in estimate.warnings:
            typer.secho(f"attention: shadow {one.variant}: {warning}", fg="yellow")


def plan(
    effect: Annotated[float, typer.Option(help="What is to be found, relative: 0.05 is five percent.")] = 0.05,
    metric: Metrics = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="So many of the last days tell who comes.")] = 28,
    traffic: Annotated[float, typer.Option(min=0.001, max=1, help="Share of people who take part.")] = 1.0,
    variants: Annotated[int, typer.Option(min=2, max=20, help="Arms of equal share, the control included.")] = 2,
    power: Annotated[float, typer.Option(min=0.5, max=0.99, help="Chance of finding the effect.")] = 0.8,
    at: Annotated[str, typer.Option(help="The end of the days that are looked at.")] = "now",
    json: Json = False,
) -> None:
    """Show how many people and days an experiment needs, from the people who come and what they do."""
    from dataclasses import asdict

    from cli.output import parse_date, print_json, print_table
    from runtime.results import plan as planned
    from storage.settings import Settings

    moment = parse_date(at)
    assert moment is not None
    if not 0 < abs(effect) < 10:
        raise typer.BadParameter(f"got effect {effect:g}, expected a share such as 0.05")
    found = planned(
        Settings(),
        effect=effect,
        at=moment,
        days=days,
        metrics=metric or (),
        shares=(1 / variants,) * variants,
        traffic=traffic,
        power=power,
    )
    if json:
        needed = [{**asdict(one), "metric": one.metric.name} for one in found.needed]
        print_json({"newPeopleByDay": found.population.new_D.tolist(), "effect": effect, "metrics": needed})
        return
    typer.echo(f"{found.population.new_D.sum()} people in {days} days")
    rows = [
        (one.metric.name, one.value, one.units, _days(one.days), *(_percent(e) for _, e in one.effect_in_days))
        if not one.problem
        else (one.metric.name, None, None, one.problem, None, None, None, None)
        for one in found.needed
    ]
    columns = ("metric", "now", "people needed", "days", "seen in 7 d", "14 d", "28 d", "56 d")
    print_table(columns, rows, title=f"to find {effect:+.1%} with {variants} arms, {power:.0%} of the time")


def analyze(
    data: Annotated[Path, typer.Option(help="A CSV or Parquet file.")],
    variant: Annotated[str, typer.Option(help="The column that names the variant.")],
    control: Annotated[str, typer.Option(help="The variant that others are held against.")],
    metric: Annotated[
        list[str],
        typer.Option(help="COL, COL:conversion, COL:mean, COL:ratio:DENOMINATOR or COL:quantile:0.9; repeatable."),
    ],
    unit: Annotated[str | None, typer.Option(help="The column that names the unit; each row is one if absent.")] = None,
    covariate: Annotated[str | None, typer.Option(help="A column from before the experiment, to adjust for.")] = None,
    share: Annotated[list[str] | None, typer.Option(help="VARIANT=SHARE as it was set; equal ones if absent.")] = None,
    looks: Annotated[bool, typer.Option("--looks", help="It goes on, and this is one of several looks.")] = False,
    planned: Annotated[
        int | None, typer.Option(min=1, help="Units at the planned end; as there are if absent.")
    ] = None,
    json: Json = False,
) -> None:
    """Read out anybody's experiment from a file."""
    from cli.output import print_json
    from monitoring.analysis import analyze as analyzed

    found = analyzed(
        data,
        variant=variant,
        control=control,
        metrics=metric,
        unit=unit,
        covariate=covariate,
        shares=dict(map(_share, share)) if share else None,
        looks=looks,
        planned_units=planned,
    )
    if json:
        about = {"rows": found.rows, "leftOut": found.left_out, "crossed": found.crossed}
        print_json({**about, **_plain(found.readout)})
        return
    _print(found.readout)
    if found.left_out:
        typer.secho(f"attention: {found.left_out} of {found.rows} rows lack a value and are left out", fg="yellow")
    if found.crossed:
        typer.secho(f"attention: {found.crossed} units are in several variants and are left out", fg="yellow")
    if found.readout.sample_ratio.mismatch:
        typer.secho(f"attention: {found.readout.sample_ratio.words}", fg="yellow")


def _print(readout: "Readout") -> None:
    from cli.output import print_table

    typer.echo(", ".join(f"{name} {n} units" for name, n in readout.units.items()))
    for one in readout.metrics:
        if one.problem:
            typer.echo(f"{one.metric.name}: {one.problem}")
    rows = [_row(one, comparison) for one in readout.metrics for comparison in one.comparisons]
    print_table(("metric", "variant", "control", "value", "change", "surely", "better", "verdict"), rows)
    for one in readout.metrics:
        for comparison in one.comparisons:
            for warning in comparison.warnings:
                typer.secho(f"attention: {one.metric.name}, {comparison.variant}: {warning}", fg="yellow")


def _row(one: "MetricReadout", comparison: "Comparison") -> tuple[Any, ...]:
    control = next(iter(one.arms.values()))
    found, sure = comparison.relative or comparison.absolute, comparison.sure
    shown = _percent if found.relative else _number
    surely = None if sure is None else f"{shown(sure.low)} .. {shown(sure.high)}"
    value = one.arms[comparison.variant].relative_to
    values = f"{control.relative_to:.4g}", f"{value:.4g}"
    name = f"{one.metric.name} (guardrail)" if one.metric.guardrail else one.metric.name
    better = f"{comparison.belief.better:.0%}"
    return (name, comparison.variant, *values, shown(found.estimate), surely, better, comparison.verdict.outcome)


def _plain(readout: "Readout") -> dict[str, Any]:
    """Return a read-out as plain values, by variant where there is one figure for each."""
    from dataclasses import asdict

    ratio = readout.sample_ratio
    return {
        "units": dict(readout.units),
        "sampleRatio": {"pValue": ratio.p_value, "mismatch": ratio.mismatch, "words": ratio.words},
        "metrics": [
            {
                "name": one.metric.name,
                "kind": one.metric.kind,
                "guardrail": one.metric.guardrail,
                "problem": one.problem or None,
                "arms": {name: asdict(arm) for name, arm in one.arms.items()},
                "best": {name: {"probability": p, "loss": loss} for name, (p, loss) in one.best.items()},
                "comparisons": [asdict(comparison) for comparison in one.comparisons],
            }
            for one in readout.metrics
        ],
        "cuts": {cut: {value: _plain(one) for value, one in found.items()} for cut, found in readout.cuts.items()},
    }


def _number(value: float) -> str:
    return f"{value:+.4g}"


def _percent(share: float) -> str:
    return f"{share:+.1%}" if abs(share) < 100 else "-"


def _days(days: float) -> str:
    return f"{days:.0f}" if days < 10_000 else "never, as things are"


def _share(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no share; write one such as treatment=0.5") from None
