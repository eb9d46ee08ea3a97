"""The command line: one verb per job. Commands import what they need when they run, so that help is there at once."""

import os
import sys
from typing import Annotated

import typer

from cli import (
    alerts,
    data,
    evaluate,
    events,
    experiments,
    features,
    jobs,
    keys,
    models,
    monitor,
    recommend,
    segments,
    service,
    training,
)
from cli.errors import explained

app = typer.Typer(
    name="bespoke",
    help="Real-time personalization that a team can run itself, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
service.add_to(app)
data.add_to(app)
training.add_to(app)
evaluate.add_to(app)
recommend.add_to(app)
app.add_typer(models.app, name="models")
app.add_typer(features.app, name="features")
app.add_typer(segments.app, name="segments")
app.add_typer(experiments.app, name="experiments")
app.add_typer(keys.app, name="keys")
app.add_typer(monitor.app, name="monitor")
app.add_typer(alerts.app, name="alerts")
app.add_typer(jobs.app, name="jobs")
app.add_typer(events.app, name="events")


@app.command()
def version(json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    from cli.output import print_json

    if json:
        print_json({"version": installed("bespoke")})
    else:
        typer.echo(installed("bespoke"))


def main() -> None:
    """Run a command; what can go wrong in ordinary use is a message and exit status 1, not a traceback."""
    # Ray takes this from the environment when it is imported: its ports ask for a token, and commands bring it.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        app()
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        typer.secho(f"bespoke: {message}", err=True, fg="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
