"""Commands for published model versions and the pointers to them."""

from typing import Annotated, Any

import typer

from cli.output import print_json, print_table, say_if_new

app = typer.Typer(help="Published models: list them, point traffic at them, roll back.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List every published version with its metrics and the pointers that name it."""
    from storage.settings import Settings
    from training.registry import published

    rows: list[dict[str, Any]] = published(Settings())
    if json:
        print_json(rows)
        return
    columns = ("model", "window", "gate", "ndcg@20", "recall@20", "pointers")
    print_table(columns, [[row[column] for column in columns] for row in rows])


@app.command()
def show(model: Annotated[str, typer.Argument(help="NAME@VERSION, NAME for its newest, or a pointer.")]) -> None:
    """Print a version's manifest as JSON."""
    from storage.settings import Settings
    from training.registry import manifest

    typer.echo(manifest(Settings(), model).model_dump_json(indent=2))


@app.command()
def compare(
    one: Annotated[str, typer.Argument(help="NAME@VERSION, NAME for its newest, or a pointer.")],
    other: Annotated[str, typer.Argument(help="The same.")] = "champion",
    until: Annotated[str, typer.Option(help="Baskets up to this time.")] = "now",
    json: Json = False,
) -> None:
    """Rank the baskets that neither of two versions has seen with both, and tell the difference."""
    from dataclasses import asdict

    from cli.output import parse_date
    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.compare import compare as on_both

    at, settings = parse_date(until), Settings()
    assert at is not None
    with steps(quiet=json) as say, ray_session(settings):
        found = on_both(one, other, settings, until=at, say=say)
    if json:
        difference = found.difference and found.difference.model_dump(mode="json")
        print_json({**asdict(found), "difference": difference})
        return
    metrics = found.measured or found.manifests
    names = sorted(set(metrics[0]) | set(metrics[1]))
    title = f"baskets from {found.since:%Y-%m-%d} on" if found.measured else "as measured when each was made"
    rows = [(name, metrics[0].get(name), metrics[1].get(name)) for name in names]
    print_table(("metric", *found.references), rows, title=title)
    typer.echo(str(found.difference) if found.difference else f"not compared on the same baskets: {found.not_measured}")


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for its newest version.")],
    pointer: Annotated[str, typer.Option(help="The pointer to move.")] = "champion",
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "promoted by hand",
    force: Annotated[bool, typer.Option("--force", help="Also a version that the gate rejected.")] = False,
    json: Json = False,
) -> None:
    """Point traffic at a version; services follow within 2 seconds."""
    from storage.settings import Settings
    from training.registry import pointers
    from training.registry import promote as move

    settings = Settings()
    others = pointers(settings)
    reference = move(settings, model, pointer=pointer, by=_user(), reason=reason, force=force)
    if json:
        print_json({pointer: reference, "new": pointer not in others})
    else:
        typer.echo(f"{pointer} is now {reference}")
        say_if_new(pointer, others)


@app.command()
def rollback(
    pointer: Annotated[str, typer.Option(help="The pointer to move back.")] = "champion",
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "rolled back by hand",
    json: Json = False,
) -> None:
    """Move a pointer back to the version that it named before."""
    from storage.settings import Settings
    from training.registry import rollback as move_back

    reference = move_back(Settings(), pointer, by=_user(), reason=reason)
    if json:
        print_json({pointer: reference})
    else:
        typer.echo(f"{pointer} is now {reference}")


def _user() -> str:
    import getpass

    return getpass.getuser()
