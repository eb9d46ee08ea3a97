"""`bespoke recommend`: lists for many people at once, from file to file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.output import parse_date, print_json


class States(StrEnum):
    """Where people's states come from."""

    ONLINE = "online"
    LAKE = "lake"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(recommend)


def recommend(
    users: Annotated[Path, typer.Option(help="People: Parquet or CSV with a column user_id.")],
    out: Annotated[Path, typer.Option(help="The folder to make; Parquet files, one row per place of a list.")],
    num: Annotated[int, typer.Option(min=1, max=100, help="Items per list at most.")] = 20,
    model: Annotated[str, typer.Option(help="A pointer, or NAME@VERSION.")] = "champion",
    pipeline: Annotated[str, typer.Option(help="One of config/pipelines.toml.")] = "default",
    states: Annotated[States, typer.Option(help="Where people's states come from.")] = States.ONLINE,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="Processes; half of Ray's CPUs if not said.")
    ] = None,
    at: Annotated[str, typer.Option(help="The time that lists are made for.")] = "now",
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Recommend to everybody in a file, by the same pipeline as over HTTP.

    The folder is there at the end and whole, or not at all. Rows that name nobody are kept apart in it, in
    _rejected.parquet, each with the reason.
    """
    from dataclasses import asdict

    from runtime.recommend import recommend_batch
    from serving.batch_files import REJECTED_FILE, BatchRequest
    from storage.settings import Settings

    time = parse_date(at)
    assert time is not None
    request = BatchRequest(users, out, num, model, pipeline, states.value, workers)
    done = recommend_batch(request, Settings(), at=time, quiet=json)
    if json:
        print_json({**asdict(done), "out": str(done.out)})
        return
    typer.echo(f"{done.people:,} lists, {done.rows:,} rows by {done.model_version} in {done.seconds:.1f} s: {done.out}")
    if done.rejected:
        typer.echo(f"{done.rejected:,} rows were rejected: {done.out / REJECTED_FILE}")
