"""Commands that train models and search for settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import parse_date, parse_days, print_json, print_table

if TYPE_CHECKING:
    from runtime.train import TrainingDone
    from storage.settings import Settings

Until = Annotated[str, typer.Option(help="The cut: nothing from this time on is seen.")]
Window = Annotated[str, typer.Option(help="How far back training looks, such as 30d.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(train)
    app.command()(tune)


def train(
    models: Annotated[
        list[str] | None, typer.Argument(help="Kinds, such as: als blend; auto; names of config/scores/.")
    ] = None,
    until: Until = "now",
    window: Window = "30d",
    every: Annotated[bool, typer.Option("--all", help="Every kind that config/models/ has settings for.")] = False,
    config: Annotated[Path | None, typer.Option(help="Settings; config/models/MODEL.toml by default.")] = None,
    promote: Annotated[str | None, typer.Option(help="Point this at the new version, such as champion.")] = None,
    incremental: Annotated[bool, typer.Option("--incremental", help="Begin from each kind's last version.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Let serve also what the gate would not.")] = False,
    segment: Annotated[
        str | None, typer.Option(help="Of popularity: count its members only, and point popular-SEGMENT at it.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Write an HTML report.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds and data give equal models.")] = 0,
    json: Json = False,
) -> None:
    """Train, measure on the last week, pass the gate, train anew up to the cut, and publish.

    `auto` is the kind that suits the data and did best on the week before the last one.

    A version that the gate rejects is kept with the reasons, and no pointer moves to it. Exit status 1: some kind
    failed; 3: --promote was asked for, and the gate rejected the version.
    """
    from runtime.train import train_with_report
    from storage.settings import Settings
    from training.train import TrainRequest

    at, settings = parse_date(until), Settings()
    assert at is not None
    kinds = _kinds(models or [], every=every, settings=settings)
    if promote is not None and len(kinds) != 1:
        raise typer.BadParameter("--promote points at one model; train the others in a command of their own")
    request = TrainRequest(kinds, at, parse_days(window), config, seed, incremental, force, segment)
    done = train_with_report(request, settings, promote=promote, report=report, quiet=json)
    if json:
        print_json(done.as_json())
    else:
        _print(done)
    raise typer.Exit(done.exit_status)


def tune(
    model: Annotated[str, typer.Argument(help="The kind of model, such as als.")],
    trials: Annotated[int, typer.Option(min=1, max=10_000, help="How many settings to try.")] = 20,
    until: Until = "now",
    window: Window = "30d",
    cuts: Annotated[int, typer.Option(min=1, max=52, help="On how many weeks settings have to do well.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds and data give equal searches.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search that was interrupted.")] = False,
    json: Json = False,
) -> None:
    """Search for settings on the weeks before the last one, in the space of config/models/MODEL-search.toml.

    The last week before the cut stays unseen: `bespoke train` measures on it.
    """
    from dataclasses import asdict

    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.tune import TuneRequest, search

    at, settings = parse_date(until), Settings()
    assert at is not None
    request = TuneRequest(model, at, parse_days(window), trials, cuts, seed, resume)
    with steps(quiet=json) as say, ray_session(settings):
        tuned = search(request, settings, say=say)
    if json:
        tried = [asdict(one) for one in tuned.trials]
        print_json({"config": tuned.config.model_dump(mode="json"), "trials": tried, "path": str(tuned.path)})
        return
    names = list(tuned.best.values)
    rows = [(one.score, one.cuts, *(one.values.get(name) for name in names)) for one in tuned.trials[:10]]
    print_table(("ndcg@20", "weeks", *names), rows, title="the best settings")
    if tuned.current is not None:
        typer.echo(f"the settings as they are: {tuned.current.score:.4f}")
    typer.echo(f"train with the best ones: bespoke train {model} --config {tuned.path}")


def _kinds(models: list[str], *, every: bool, settings: "Settings") -> tuple[str, ...]:
    from training.configs import configured_kinds
    from training.propensity import score_paths

    if every == bool(models):
        raise typer.BadParameter("name the kinds to train, or say --all")
    if not every:
        return tuple(dict.fromkeys(models))
    return *configured_kinds(settings.config_dir), *(path.stem for path in score_paths(settings.config_dir))


def _print(done: "TrainingDone") -> None:
    from training.propensity import summary

    measured = {} if done.trained is None else done.trained.metrics
    if measured:
        names = sorted({name for values in measured.values() for name in values})
        rows = [(kind, *(values.get(name) for name in names)) for kind, values in measured.items()]
        print_table(("model", *names), rows, title="the last week before the cut, trained on what was before it")
    for name, verdict in done.verdicts.items():
        typer.echo(f"{name}: {verdict.state}, {done.references[name]}")
        for reason in verdict.reasons:
            typer.echo(f"  {reason}")
    for name, values in ({} if done.scores is None else done.scores.metrics).items():
        typer.echo(f"{name}: {summary(values)}")
    for name, error in ({} if done.trained is None else done.trained.errors).items():
        typer.echo(f"{name}: failed: {error}")
    for line in done.notes:
        typer.echo(line)
