"""Commands for jobs: what runs by itself, done by hand, and what became of it."""

from typing import Annotated, Any

import typer

from cli.output import print_json, print_table

app = typer.Typer(help="Jobs: what the schedule and alerts ask for, and you.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many.")] = 20, json: Json = False
) -> None:
    """List jobs, newest first."""
    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        jobs = control.list_jobs(limit=limit)
    if json:
        print_json([_plain(job) for job in jobs])
        return
    columns = ("job", "kind", "state", "by", "asked", "ended", "error")
    print_table(
        columns, [(j.job_id, j.kind, j.state, j.by, _time(j.enqueued_at), _time(j.finished_at), j.error) for j in jobs]
    )


@app.command()
def show(job: Annotated[int, typer.Argument(help="Its number.")]) -> None:
    """Show one job with its arguments and what came of it, as JSON."""
    from storage.control import ControlStore
    from storage.settings import Settings

    with ControlStore(Settings().control_url) as control:
        print_json(_plain(control.job(job)))


@app.command()
def run(
    kind: Annotated[str, typer.Argument(help="drift, alerts, readouts, retrain, roll_back, stop_variant or ramp_up.")],
    argument: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, as JSON or text; repeatable.")
    ] = None,
) -> None:
    """Do a job now and wait for it; what cron can call. Prints its result as JSON."""
    from datetime import UTC, datetime

    from runtime.jobs import run_job
    from storage.settings import Settings

    print_json(run_job(Settings(), kind, dict(map(_argument, argument or ())), at=datetime.now(UTC)))


@app.command(hidden=True)
def work(job: Annotated[int, typer.Argument(help="Its number.")]) -> None:
    """Do what a worker claimed."""
    from datetime import UTC, datetime

    from runtime.jobs import run_job
    from storage.control import ControlStore
    from storage.settings import Settings

    settings = Settings()
    with ControlStore(settings.control_url) as control:
        claimed = control.job(job)
    print_json(run_job(settings, claimed.kind, claimed.arguments, at=datetime.now(UTC)))


def _argument(text: str) -> tuple[str, Any]:
    import orjson

    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r}: write NAME=VALUE")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _plain(job: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(job)


def _time(at: Any) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
