"""Commands for API keys."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import parse_date, parse_days, print_json, print_table

if TYPE_CHECKING:
    from storage.control_keys import KeyInfo

app = typer.Typer(help="API keys: who may send events, ask for recommendations, read profiles.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[
        list[str], typer.Option(help="ingest, recommend, profiles, experiments, catalog, metrics or admin; repeatable.")
    ],
    expires_in: Annotated[str | None, typer.Option(help="How long it is good, such as 90d or 12h.")] = None,
    expires: Annotated[str | None, typer.Option(help="Until when it is good, such as 2027-01-31.")] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second; any number if absent.")] = None,
    burst: Annotated[
        int | None, typer.Option(help="Requests at once after a pause; a second's worth if absent.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key. Its secret is shown once and kept nowhere."""
    from datetime import UTC, datetime

    from storage.control import ControlStore
    from storage.settings import Settings

    if expires is not None and expires_in is not None:
        raise typer.BadParameter("--expires and --expires-in say the same thing; give one of them")
    now = datetime.now(UTC)
    until = parse_date(expires) if expires_in is None else now + parse_days(expires_in)
    with ControlStore(Settings().control_url) as control:
        info, secret = control.create_key(name, scope, now, expires_at=until, rate=rate, burst=burst)
    if json:
        limits = {"expires_at": info.expires_at, "rate": info.rate, "burst": info.burst}
        print_json({"key_id": info.key_id, "name": info.name, "scopes": list(info.scopes), **limits, "secret": secret})
    else:
        until_text = "" if info.expires_at is None else f", good until {info.expires_at.isoformat(timespec='minutes')}"
        scopes = ", ".join(info.scopes)
        typer.echo(f"key {info.key_id} ({scopes}{until_text}); the secret, shown this once: {secret}")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the keys; secrets are not kept."""
    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        keys = control.list_keys()
    columns = ("key_id", "name", "scopes", "created_at", "expires_at", "rate", "burst", "revoked_at")
    if json:
        print_json([{name: getattr(key, name) for name in columns} | {"scopes": ", ".join(key.scopes)} for key in keys])
        return
    rows = [(key.key_id, key.name, ", ".join(key.scopes), _rate(key), _state(key)) for key in keys]
    print_table(("key_id", "name", "scopes", "rate", "state"), rows)


def _rate(key: "KeyInfo") -> str:
    return "any" if key.rate is None else f"{key.rate:g}/s, {key.burst} at once"


def _state(key: "KeyInfo") -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M}"
    return "good" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}"


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]) -> None:
    """Revoke a key; it stops working within seconds."""
    from datetime import UTC, datetime

    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        control.revoke_key(key_id, datetime.now(UTC))
    typer.echo(f"key {key_id} is revoked")
