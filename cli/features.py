"""Commands about features: what there is, what each adds, and an online store made anew."""

from typing import Annotated

import typer

app = typer.Typer(help="Features: what there is, what each adds, and the online store.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command("list")
def list_features(json: Json = False) -> None:
    """List every feature that is declared."""
    from bespoke.features import FEATURES
    from cli.output import print_json, print_table

    columns = ("name", "type", "meaning", "unit", "source")
    rows = [(one.name, one.type.value, one.meaning, one.unit, one.source.value) for one in FEATURES]
    if json:
        print_json({"features": [dict(zip(columns, row, strict=True)) for row in rows]})
    else:
        print_table(columns, rows)


@app.command()
def docs() -> None:
    """Write docs/features.md from the declarations."""
    from runtime.features import PAGE, features_page

    PAGE.write_text(features_page(), encoding="utf-8")
    typer.echo(f"written: {PAGE}")


@app.command()
def rebuild(json: Json = False) -> None:
    """Make the online store anew from the lake, where it was lost; safe while events are processed."""
    from cli.output import print_json
    from runtime.features import rebuild_online
    from runtime.progress import bars
    from storage.settings import Settings

    with bars(quiet=json) as shown:
        task = shown.add_task("states online")
        done = rebuild_online(
            Settings(), on_progress=lambda count, total: shown.update(task, completed=count, total=total)
        )
    if json:
        found = {"people": done.people, "written": done.written, "seconds": done.seconds}
        print_json({**found, "rows_per_s": done.rows_per_s})
    else:
        typer.echo(
            f"{done.people} people, {done.written} written, {done.rows_per_s:,.0f} rows/s ({done.seconds:.1f} s)"
        )


@app.command()
def importance(
    model: Annotated[
        list[str] | None, typer.Argument(help="Scores of config/scores/, or blend; all of them by default.")
    ] = None,
    until: Annotated[str, typer.Option(help="The cut; now by default.")] = "now",
    window: Annotated[str, typer.Option(help="How far back it looks.")] = "365d",
    repeats: Annotated[int, typer.Option(min=5, max=1000, help="How often each feature is shuffled.")] = 20,
    json: Json = False,
) -> None:
    """Rank features by what they add to a model, on people and times that it did not learn from."""
    from cli.output import parse_date, parse_days, print_json, print_table
    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.importance import ImportanceRequest, importances

    at = parse_date(until)
    assert at is not None
    request = ImportanceRequest(tuple(model or ()), until=at, window=parse_days(window), repeats=repeats)
    settings = Settings()
    with steps(quiet=json) as say, ray_session(settings):
        found = importances(request, settings, say=say)
    if json:
        print_json({"models": [one.as_json() for one in found]})
        return
    for one in found:
        rows = [(added.name, added.mean, added.low, added.high) for added in one.features]
        title = f"{one.model}: what {one.metric} ({one.reached:.4f} on {one.examples} {one.of}) loses without each"
        print_table(("feature", "adds", "2.5%", "97.5%"), rows, title=title)
