"""Commands for alerts: what is on, and who looks after it."""

from typing import Annotated

import typer

from cli.output import print_json, print_table

app = typer.Typer(help="Alerts: what is not as it should be.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command("list")
def list_alerts(json: Json = False) -> None:
    """List the alerts that are on."""
    from dataclasses import asdict

    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        on = control.alerts()
    if json:
        print_json([asdict(alert) for alert in on])
        return
    rows = [(a.name, a.subject or None, f"{a.since:%Y-%m-%d %H:%M}", a.acknowledged_by, a.words) for a in on]
    print_table(("alert", "subject", "since", "acknowledged by", "words"), rows)


@app.command()
def check(json: Json = False) -> None:
    """Look now: measure, put alerts on and off, tell those who are to be told."""
    from datetime import UTC, datetime

    from runtime.alerts import look
    from storage.settings import Settings

    found = look(Settings(), at=datetime.now(UTC))
    if json:
        print_json(found)
        return
    rows = [(one["metric"], one["subject"] or None, one["value"], one["words"] or None) for one in found["measured"]]
    print_table(("metric", "subject", "value", "words"), rows)
    for name, told in (("on", found["on"]), ("off", found["off"]), ("could not be told to", found["notTold"])):
        if told:
            typer.echo(f"{name}: {', '.join(told)}")


@app.command()
def acknowledge(
    name: Annotated[str, typer.Argument(help="An alert that is on.")],
    subject: Annotated[str | None, typer.Option(help="Only of this subject.")] = None,
) -> None:
    """Say that you look after an alert: nobody is told again, and nothing is done again, while it is on."""
    from datetime import UTC, datetime
    from getpass import getuser

    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        count = control.acknowledge(name, subject=subject, by=getuser(), at=datetime.now(UTC))
    typer.echo(f"{count} acknowledged")
