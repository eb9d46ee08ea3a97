"""Commands that run things: the whole system, and the demo."""

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(up)
    app.command()(demo)


def up(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="HTTP port; 8000 by default.")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=64, help="Recommender replicas.")] = 1,
    log: Annotated[
        str | None, typer.Option(metavar="URL", help="Event log in kafka://HOST:PORT/TOPIC; SQLite by default.")
    ] = None,
    profiles: Annotated[
        str | None, typer.Option(metavar="URL", help="Profiles in postgresql+psycopg://...; SQLite by default.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Keys, pointers and jobs in postgresql+psycopg://...; SQLite by default."),
    ] = None,
    online: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Online features in redis://HOST:PORT or postgresql://...; SQLite by default."
        ),
    ] = None,
) -> None:
    """Start everything on this machine; Ctrl-C stops it cleanly."""
    from runtime.up import run_until_stopped
    from storage.settings import Settings

    given = {
        "http_port": port,
        "log_url": log,
        "profiles_url": profiles,
        "control_url": control,
        "online_url": online,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    run_until_stopped(Settings(**changes), replicas=replicas)  # type: ignore[arg-type]


def demo(
    exit: Annotated[bool, typer.Option("--exit", help="Stop at the end instead of serving on.")] = False,
    home: Annotated[Path, typer.Option(help="Folder of the demo; emptied first.")] = Path("var/demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="HTTP port.")] = 8000,
    cut: Annotated[str, typer.Option(help="Import until here, replay from here.")] = "2017-11-20",
    days: Annotated[int, typer.Option(min=1, max=28, help="How many days to replay.")] = 7,
) -> None:
    """Take real grocery purchases through the whole loop: import, train, serve a split, replay, watch."""
    from cli.output import parse_date
    from runtime.demo.run import run_demo

    at = parse_date(cut)
    assert at is not None
    run_demo(home=home, port=port, cut=at, days=days, stay=not exit)
