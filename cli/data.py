"""Commands for what comes in: bulk import, and the check of everything in config/."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import parse_date, print_json, print_table

if TYPE_CHECKING:
    from ingestion.importer import ImportResult


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(ingest)
    app.command()(validate)


def ingest(
    path: Annotated[Path, typer.Argument(help="A CSV or Parquet file, or a folder of them.")],
    mapping: Annotated[Path, typer.Option(help="How columns become events: config/sources/NAME.toml.")],
    since: Annotated[str | None, typer.Option(help="Only events from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only events before this time.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what a finished import brought in already.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Bring files in: events, catalog and traits, through the same checks as HTTP."""
    from dataclasses import asdict

    from ingestion.importer import import_files
    from ingestion.mapping import load_mapping
    from runtime.progress import import_progress
    from storage.settings import Settings

    loaded = load_mapping(mapping)
    with import_progress(quiet=json) as progress:
        result = import_files(
            path,
            loaded,
            Settings(),
            since=parse_date(since),
            until=parse_date(until),
            again=again,
            progress=progress,
        )
    if json:
        print_json({**asdict(result), "messages_per_s": round(result.accepted / result.seconds, 1)})
    else:
        _print_result(result)
    if not result.accepted and (result.rejected or not result.items):
        raise typer.Exit(1)


def _print_result(result: "ImportResult") -> None:
    typer.echo(
        f"{result.accepted:,} messages ({result.lines:,} lines) and {result.items:,} items taken "
        f"in {result.seconds:.1f} s, {result.rejected:,} rejected"
    )
    if result.rejects_file is not None:
        rows = sorted(result.rejected_by_field.items(), key=lambda item: -item[1])
        print_table(["rejected because of", "messages"], rows)
        typer.echo(f"every rejected message with its reason: {result.rejects_file}")


def validate(json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False) -> None:
    """Check every file in config/, also against one another."""
    from datetime import UTC, datetime

    from runtime.validate import config_notices, validate_config
    from storage.settings import Settings

    config_dir = Settings().config_dir
    problems, notices = validate_config(config_dir), config_notices(config_dir, at=datetime.now(UTC))
    if json:
        print_json({"problems": problems, "notices": notices})
    for problem in () if json else problems:
        typer.secho(problem, fg="red")
    for notice in () if json else notices:
        typer.secho(notice, fg="yellow")
    if problems:
        raise typer.Exit(1)
    if not json:
        typer.echo(f"{config_dir}: all is well")
