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
    columns = ("model", "kind", "window", "ndcg@20", "recall@20", "pointers")
    print_table(columns, [[row[column] for column in columns] for row in rows])


@app.command()
def show(model: Annotated[str, typer.Argument(help="NAME@VERSION, NAME for its newest, or a pointer.")]) -> None:
    """Print a version's manifest as JSON."""
    from storage.settings import Settings
    from training.registry import manifest

    typer.echo(manifest(Settings(), model).model_dump_json(indent=2))


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for its newest version.")],
    pointer: Annotated[str, typer.Option(help="The pointer to move.")] = "champion",
    reason: Annotated[str, typer.Option(help="Why, for the audit trail.")] = "promoted by hand",
    json: Json = False,
) -> None:
    """Point traffic at a version; services follow within 2 seconds."""
    from storage.settings import Settings
    from training.registry import pointers
    from training.registry import promote as move

    settings = Settings()
    others = pointers(settings)
    reference = move(settings, model, pointer=pointer, by=_user(), reason=reason)
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
