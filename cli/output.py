"""What commands print: one JSON object for scripts, a table for people."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import typer

from bespoke.clock import utc


def print_json(value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print ``value`` as one line of JSON."""
    import orjson

    typer.echo(orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print rows under headings, as they are; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, since rich takes what stands in square brackets of a plain string for markup.
    table = Table(title=None if title is None else Text(title), title_justify="left")
    body = [[_shown(value) for value in row] for row in rows]
    for n, column in enumerate(columns):
        numbers = bool(body) and all(row[n][:1].isdigit() or row[n][:1] in "-+." for row in body)
        table.add_column(Text(column), justify="right" if numbers else "left", overflow="fold", no_wrap=n == 0)
    for row in body:
        table.add_row(*map(Text, row))
    Console().print(table)


def say_if_new(pointer: str, others: Collection[str]) -> None:
    """Say that a pointer was not there before; ``others`` are those that were."""
    if pointer not in others:
        typer.echo(f"{pointer} is a new pointer; there were: {', '.join(sorted(others)) or 'none'}")


def parse_date(text: str | None) -> datetime | None:
    """Return the time that ``text`` (ISO 8601) names; ``now`` is the present.

    Raises:
        BadParameter: it names none.
    """
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    try:
        return utc(datetime.fromisoformat(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write one such as 2017-11-20 or 2017-11-20T12:00") from None


def parse_days(text: str) -> timedelta:
    """Return a length of time such as ``30d`` or ``12h``.

    Raises:
        BadParameter: it is none.
    """
    units = {"d": "days", "h": "hours"}
    if text[-1:] not in units or not text[:-1].isdigit() or int(text[:-1]) < 1:
        raise typer.BadParameter(f"{text!r} is no length of time; write one such as 30d or 12h")
    return timedelta(**{units[text[-1]]: int(text[:-1])})


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
