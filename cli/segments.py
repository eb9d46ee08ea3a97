"""Commands about segments: which there are, who is in them, and why."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bespoke.segments import Explained

app = typer.Typer(help="Segments: which there are, who is in them, and why.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Name = Annotated[str, typer.Argument(help="A segment of config/segments.toml.")]


@app.command("list")
def list_segments(json: Json = False) -> None:
    """List the segments that are defined, with their sizes now."""
    from cli.output import print_json, print_table
    from runtime.segments import sizes_now
    from storage.settings import Settings

    found = sizes_now(Settings())
    if json:
        print_json({"segments": [{"name": s.name, "members": s.members, "meaning": s.meaning} for s in found]})
    else:
        print_table(("segment", "members", "meaning"), [(s.name, s.members, s.meaning) for s in found])


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="A file to check; config/segments.toml by default.")] = None,
    json: Json = False,
) -> None:
    """Check a file of segments, and print each of them in words."""
    from cli.output import print_json
    from runtime.segments import checked
    from storage.settings import Settings

    found = checked(Settings(), file)
    if json:
        rows = [
            {"name": s.name, "meaning": s.meaning, "fingerprint": s.fingerprint, "words": "\n".join(s.rows)}
            for s in found
        ]
        print_json({"segments": rows})
        return
    for segment in found:
        typer.echo(
            "\n".join((f"{segment.name}: {segment.meaning}" if segment.meaning else segment.name, *segment.rows))
        )
    typer.echo(f"{len(found)} segments, nothing wrong")


@app.command()
def count(
    name: Annotated[str | None, typer.Argument(help="A segment; all of them by default.")] = None,
    since: Annotated[str | None, typer.Option(help="Sizes from this date on; the newest 1,000 by default.")] = None,
    json: Json = False,
) -> None:
    """Count the people in a segment, now and over time."""
    from cli.output import parse_date, print_json, print_table
    from runtime.segments import counted
    from storage.settings import Settings

    found = counted(Settings(), name, since=parse_date(since))
    if json:
        rows = [
            {"name": s.name, "members": s.members, "sizes": [{"at": at, "members": n} for at, n in s.sizes]}
            for s in found
        ]
        print_json({"segments": rows})
        return
    for segment in found:
        typer.echo(f"{segment.name}: {segment.members} now")
        if segment.sizes:
            print_table(("at", "members"), segment.sizes)


@app.command()
def members(
    name: Name,
    after: Annotated[str, typer.Option(help="Only people beyond this id: the last one of the page before.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    json: Json = False,
) -> None:
    """List the people who are in a segment, by id."""
    from cli.output import print_json, print_table
    from runtime.segments import members as members_of
    from storage.settings import Settings

    found = members_of(Settings(), name, after=after, limit=limit)
    if json:
        print_json(
            {"segment": name, "members": [{"id": m.user_id, "since": m.since, "ordinal": m.ordinal} for m in found]}
        )
        return
    print_table(("id", "since", "ordinal"), [(m.user_id, m.since, m.ordinal) for m in found])
    if len(found) == limit:
        typer.echo(f"there may be more: --after {found[-1].user_id}")


@app.command()
def explain(
    user: Annotated[str, typer.Argument(help="A user id, or anonymous: and an anonymous id.")],
    name: Annotated[str | None, typer.Argument(help="A segment; all of them by default.")] = None,
    at: Annotated[str, typer.Option(help="The moment to look at, with what is known now.")] = "now",
    json: Json = False,
) -> None:
    """Explain why somebody is in a segment, or is not."""
    from cli.output import parse_date, print_json
    from runtime.segments import explained
    from storage.settings import Settings

    moment = parse_date(at)
    assert moment is not None
    found = explained(Settings(), user, name, at=moment)
    if json:
        rows = [{"name": w.name, "inside": w.explained.holds, "kept": w.kept, "why": _tree(w.explained)} for w in found]
        print_json({"id": user, "at": moment, "segments": rows})
        return
    for why in found:
        typer.echo(f"{why.name}: {'in' if why.explained.holds else 'not in'}{_behind(why.kept, why.explained.holds)}")
        typer.echo("\n".join(f"  {row}" for row in str(why.explained).splitlines()))


@app.command()
def undelivered(
    subscriber: Annotated[str | None, typer.Option(help="Only of this subscriber of config/subscribers.toml.")] = None,
    dead: Annotated[
        bool, typer.Option("--dead", help="Those that were given up, rather than those that wait.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Have those that were given up tried again.")] = False,
    json: Json = False,
) -> None:
    """List transitions that a subscriber did not take yet."""
    from cli.output import print_json, print_table
    from runtime.segments import revived
    from runtime.segments import undelivered as waiting
    from storage.settings import Settings

    if retry:
        count = revived(Settings(), subscriber)
        print_json({"revived": count}) if json else typer.echo(f"{count} are tried again")
        return
    found = waiting(Settings(), subscriber, dead=dead)
    if json:
        print_json({"undelivered": found})
    else:
        print_table(("subscriber", "message", "attempts", "next", "error"), [tuple(row.values()) for row in found])


def _behind(kept: bool, holds: bool) -> str:
    return "" if kept == holds else f" (the processor has them {'in' if kept else 'out'} until it looks again)"


def _tree(one: "Explained") -> dict[str, Any]:
    return {
        "text": one.text,
        "found": one.found,
        "holds": one.holds,
        "next_change_ms": one.next_change_ms,
        "parts": [_tree(part) for part in one.parts],
    }
