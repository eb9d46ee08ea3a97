"""Commands for API keys."""

from typing import Annotated

import typer

from cli.output import print_json, print_table

app = typer.Typer(help="API keys: who may send events, ask for recommendations, read profiles.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str], typer.Option(help="ingest, recommend, profiles, experiments or admin; repeatable.")],
    json: Json = False,
) -> None:
    """Make a key. Its secret is shown once and kept nowhere."""
    from datetime import UTC, datetime

    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        info, secret = control.create_key(name, scope, datetime.now(UTC))
    if json:
        print_json({"key_id": info.key_id, "name": info.name, "scopes": list(info.scopes), "secret": secret})
    else:
        typer.echo(f"key {info.key_id} ({', '.join(info.scopes)}); the secret, shown this once: {secret}")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the keys; secrets are not kept."""
    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        keys = control.list_keys()
    rows = [(key.key_id, key.name, ", ".join(key.scopes), key.created_at, key.revoked_at) for key in keys]
    columns = ("key_id", "name", "scopes", "created_at", "revoked_at")
    if json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table(columns, rows)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke a key; it stops working within seconds."""
    from datetime import UTC, datetime

    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        control.revoke_key(key_id, datetime.now(UTC))
    typer.echo(f"key {key_id} is revoked")
