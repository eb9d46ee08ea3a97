"""Commands for events that came in: those that failed, another try for them, and the quality of all."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import parse_days, print_json, print_table

if TYPE_CHECKING:
    from monitoring.quality import QualityRow

app = typer.Typer(help="What came in: failed events, their replay, and data quality.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
Since = Annotated[str | None, typer.Option(help="Only what was received within this time, such as 24h or 7d.")]
Source = Annotated[str | None, typer.Option(help="Only of this source: the name of an API key.")]
Reason = Annotated[str | None, typer.Option(help="Only with this reason, as `events failed` shows it.")]
ERROR_CHARS = 100
COLUMNS = ("event", "source", "accepted", "refused", "repeats", "bots", "delay s", "volume")


@app.command()
def failed(
    since: Since = None,
    source: Source = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many events as examples.")] = 20,
    json: Json = False,
) -> None:
    """Show events that were refused: how many by reason, and examples. They hold personal data."""
    from storage.quality import QualityStore
    from storage.settings import Settings

    since_ms = _since_ms(since)
    with QualityStore(Settings().quality_url) as store:
        groups = store.failed_by_reason(since_ms=since_ms, source=source, reason=reason)
        examples = store.failed(since_ms=since_ms, source=source, reason=reason, limit=limit, newest=True)
    columns = ("reason", "source", "events")
    if json:
        reasons = [dict(zip(columns, row, strict=True)) for row in groups]
        print_json({"failed": sum(row[2] for row in groups), "reasons": reasons, "events": _examples(examples)})
        return
    if not groups:
        typer.echo("no failed events")
        return
    print_table(columns, groups)
    rows = [(one["received_at"], one["source"], one["message_id"], _short(one["error"])) for one in _examples(examples)]
    print_table(("received_at", "source", "message_id", "error"), rows, title=f"the newest {len(rows)}")
    typer.echo("once config/tracking.toml or the senders' events are right: bespoke events replay --dry-run")


@app.command()
def replay(
    reason: Reason = None,
    source: Source = None,
    since: Since = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    json: Json = False,
) -> None:
    """Check failed events again; bring those in that are good now, under their own ids and times."""
    from dataclasses import asdict

    from ingestion.replay import replay_failed
    from storage.eventlog import open_event_log
    from storage.quality import QualityStore
    from storage.settings import Settings
    from storage.tracking import load_plan

    settings = Settings()
    plan, log = load_plan(settings.config_dir), open_event_log(settings.log_url)
    try:
        with QualityStore(settings.quality_url) as store:
            result = replay_failed(
                store,
                log,
                plan,
                reason=reason,
                source=source,
                since_ms=_since_ms(since),
                dry_run=dry_run,
                any_age=settings.replay,
            )
    finally:
        log.close()
    if json:
        print_json({**asdict(result), "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    typer.echo(f"{result.replayed:,} events {would}replayed, {result.left:,} {would}left")
    if result.reasons:
        print_table(("still fails because of", "events"), list(result.reasons.items()))


@app.command()
def quality(
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 7d.")] = "24h", json: Json = False
) -> None:
    """Show the quality of what came in, per source and event."""
    from datetime import UTC, datetime

    from bespoke.clock import to_ms
    from monitoring.quality import quality_figures
    from storage.quality import QualityStore
    from storage.settings import Settings

    until = datetime.now(UTC)
    with QualityStore(Settings().quality_url) as store:
        rows = quality_figures(store, since_ms=to_ms(until - parse_days(since)), until_ms=to_ms(until))
    if json:
        print_json([_figures(row) for row in rows])
        return
    if not rows:
        typer.echo(f"nothing came in within {since}")
        return
    print_table(COLUMNS, [_line(row) for row in rows])
    if wrong := [line for row in rows for line in _wrong(row)]:
        print_table(("event", "source", "what", "how much"), wrong, title="what is wrong")
    typer.echo(
        "repeats: same messageId + near; delay: median / 95%; volume: of the same hours of earlier weeks, "
        "and how many weeks; ! where unusual"
    )


def _since_ms(since: str | None) -> int | None:
    from datetime import UTC, datetime

    from bespoke.clock import to_ms

    return None if since is None else to_ms(datetime.now(UTC) - parse_days(since))


def _examples(events: Any) -> list[dict[str, Any]]:
    import orjson

    from bespoke.clock import from_ms

    shown = []
    for one in events:
        message = orjson.loads(one.payload) if one.payload else None
        message_id = message.get("messageId") if isinstance(message, dict) else None
        shown.append(
            {
                "received_at": from_ms(one.received_ms),
                "source": one.source,
                "reason": one.reason,
                "error": one.error,
                "message_id": message_id,
                "message": message,
            }
        )
    return shown


def _short(error: str) -> str:
    return error if len(error) <= ERROR_CHARS else error[: ERROR_CHARS - 3] + "..."


def _figures(row: "QualityRow") -> dict[str, Any]:
    from dataclasses import asdict

    volume = {**asdict(row.volume), "ratio": row.volume.ratio, "unusual": row.volume.unusual}
    return {**asdict(row), "volume": volume}


def _line(row: "QualityRow") -> tuple[Any, ...]:
    volume, median, p95 = row.volume, row.delay_median_ms, row.delay_p95_ms
    ratio = "-" if volume.ratio is None else f"{volume.ratio:.2f} ({volume.weeks}){' !' if volume.unusual else ''}"
    delay = "-" if median is None or p95 is None else f"{median / 1000:.1f} / {p95 / 1000:.1f}"
    repeats = f"{row.duplicates} + {row.near_duplicates}"
    return (_event(row), row.source, row.accepted, sum(row.rejected.values()), repeats, row.bots, delay, ratio)


def _wrong(row: "QualityRow") -> Iterator[tuple[str, str, str, str]]:
    for reason, n in row.rejected.items():
        yield _event(row), row.source, f"refused: {reason}", str(n)
    for key, n in row.violations.items():
        yield _event(row), row.source, f"against the plan: {key}", str(n)
    for name, share in row.missing.items():
        if share:
            yield _event(row), row.source, f"lines without {name}", f"{share:.0%}"


def _event(row: "QualityRow") -> str:
    return row.name or row.type or "(unreadable)"
