"""`bespoke evaluate`: measure models, on anybody's files or on the lake."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bespoke.errors import BespokeError
from cli.output import parse_date, parse_days, print_json, print_table

if TYPE_CHECKING:
    from training.offline.evaluate import FileRequest

FILES = "On files (no installation needed)"
LAKE = "On the lake of an installation"
TIME_UNITS = {"s": 1, "m": 60, "h": 3600}

EPILOG = """
Files are Parquet or delimited text (.csv, .tsv, also .gz), or folders of them. Columns: user_id, item_id; where there
are any event_type, timestamp (ISO 8601, or seconds, ms, µs or ns since 1970) and weight. Rows without ids, with a
weight of 0 or, in a file with times, without one are left out and counted. Event types are view, click, add_to_cart,
remove_from_cart, add_to_wishlist, purchase, refund and the e-commerce names of the Segment dialect; rows of other types
count 1, and are told. A weight replaces that of the type. Everything in the test part that was not taken back counts as
right, also what train does not know.

Items: item_id, name or title, category (a list, or a path such as Food > Tea), brand, price; other columns of words
become text.

With --repeats mask, what a person has in train is neither recommended nor counted as right; with allow, both. People
for whom nothing is right are left out; those without train lines are ranked for as newcomers. Recall is hits over all
that is right, also where that is more than k.
"""


class Repeats(StrEnum):
    """Whether people may be shown what they have had."""

    MASK = "mask"
    ALLOW = "allow"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog=EPILOG.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n"))(evaluate)


def evaluate(
    model: Annotated[
        list[str], typer.Option(help="Kind of model; may be repeated. On files also auto: the best of those that suit.")
    ],
    train: Annotated[Path | None, typer.Option(help="Interactions to learn from.", rich_help_panel=FILES)] = None,
    test: Annotated[Path | None, typer.Option(help="Interactions to be measured on.", rich_help_panel=FILES)] = None,
    items: Annotated[Path | None, typer.Option(help="What is known of items.", rich_help_panel=FILES)] = None,
    candidates: Annotated[
        Path | None, typer.Option(help="Rank only these: user_id, item_id.", rich_help_panel=FILES)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Instead of --test: leave-last, or time:DATE.", rich_help_panel=FILES)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings of the model; found on a part of train by default.", rich_help_panel=FILES),
    ] = None,
    repeats: Annotated[
        Repeats | None,
        typer.Option(
            help="May people be shown what they have in train? By default train decides.", rich_help_panel=FILES
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(help="Of the whole command, such as 90s, 30m or 1h; 10m by default.", rich_help_panel=FILES),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Equal seeds and data give equal models; 0 by default.", rich_help_panel=FILES),
    ] = None,
    until: Annotated[str | None, typer.Option(help="The cut; now by default.", rich_help_panel=LAKE)] = None,
    window: Annotated[
        str | None, typer.Option(help="How far back training looks; 30d by default.", rich_help_panel=LAKE)
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(
            min=1, help="Baskets of this many days before the cut are ranked; 7 by default.", rich_help_panel=LAKE
        ),
    ] = None,
    k: Annotated[str, typer.Option(help="Lengths of the lists.")] = "10,20",
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Measure models on people's later interactions, beside popularity and what people had before.

    With --train, on files: settings are chosen on a part of train, and nothing of the test part is seen before the end.
    Without it, on the last days of the lake.
    """
    of_files: dict[str, Any] = {
        "--test": test,
        "--items": items,
        "--candidates": candidates,
        "--split": split,
        "--config": config,
    }
    of_files |= {"--repeats": repeats, "--time-limit": time_limit, "--seed": seed}
    of_lake = {"--until": until, "--window": window, "--days": days}
    lengths = parse_lengths(k)
    if train is None:
        _refuse(of_files, "needs --train; without it the lake is evaluated, with --until, --window and --days")
        _on_lake(model, until or "now", window or "30d", days or 7, lengths, json=json)
        return
    _refuse(of_lake, "is for the lake; with --train use --test or --split")
    last, split_ms = _parse_split(split, test)
    from training.offline.evaluate import FileRequest

    _on_files(
        FileRequest(
            kinds=tuple(dict.fromkeys(model)),
            train=train,
            test=test,
            items=items,
            candidates=candidates,
            config=config,
            ks=lengths,
            repeats=None if repeats is None else repeats is Repeats.ALLOW,
            leave_last=last,
            split_ms=split_ms,
            time_limit_s=parse_limit(time_limit or "10m"),
            seed=seed or 0,
        ),
        json=json,
    )


def parse_lengths(text: str) -> tuple[int, ...]:
    """Return lengths of lists, ascending.

    Raises:
        BadParameter: they are none.
    """
    try:
        lengths = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        lengths = ()
    if not lengths or min(lengths) < 1 or max(lengths) > 1000:
        raise typer.BadParameter(f"--k {text!r}: write whole numbers from 1 to 1000, such as 10,20")
    return lengths


def parse_limit(text: str) -> float:
    """Return seconds.

    Raises:
        BadParameter: it is no length of time.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in TIME_UNITS or not number.isdigit() or int(number) < 1:
        raise typer.BadParameter(f"--time-limit {text!r} is no length of time; write one such as 90s, 30m or 1h")
    return float(int(number) * TIME_UNITS[unit])


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"{given[0]} {why}")


def _parse_split(split: str | None, test: Path | None) -> tuple[bool, int | None]:
    """Return whether each person's last line is held out, and the moment from which on lines are."""
    from bespoke.clock import to_ms

    if (split is None) == (test is None):
        raise typer.BadParameter("with --train give either --test FILE or --split leave-last or --split time:DATE")
    if split is None or split == "leave-last":
        return split is not None, None
    if not split.startswith("time:"):
        raise typer.BadParameter(f"--split {split!r}, expected leave-last or time:DATE, such as time:2017-11-20")
    at = parse_date(split.removeprefix("time:"))
    assert at is not None
    return False, to_ms(at)


def _on_files(request: "FileRequest", *, json: bool) -> None:
    from runtime.progress import steps
    from training.offline.evaluate import evaluate as evaluate_files
    from training.offline.report import report

    try:
        with steps() as say:
            found = report(evaluate_files(request, say=say))
    except BespokeError as error:
        # Files and settings are what the person wrote, like the options themselves.
        typer.secho(f"bespoke: {error}", err=True, fg="red")
        raise typer.Exit(2) from None
    if json:
        print_json(found)
    else:
        _print_report(found)


def _print_report(found: dict[str, Any]) -> None:
    models: dict[str, Any] = found["models"] if "models" in found else {found["model"]: found}
    columns = {kind: one["metrics"] for kind, one in models.items()}
    columns |= {kind: one["metrics"] for kind, one in found["baselines"].items() if kind not in columns}
    for k in found["k"]:
        names = [name for name in next(iter(columns.values())) if name.endswith(f"@{k}")]
        rows = [(name, *(values[name] for values in columns.values())) for name in names]
        print_table(("metric", *columns), rows, title=f"lists of {k}")
    for kind, one in models.items():
        _print_cohorts(kind, one, f"ndcg@{max(found['k'])}")
    repeats = "may be shown again" if found["repeats"] == "allow" else "is not shown again"
    typer.echo(f"{found['users']} people; what they have in train {repeats} (--repeats {found['repeats']}).")
    typer.echo(f"{found['seconds']['total']:.1f} s, at most {found['peak_memory_mb']:.0f} MB.")


def _print_cohorts(kind: str, one: dict[str, Any], key: str) -> None:
    """Print who the model serves how well, and how it stands beside the better baseline."""
    rows = [(name, part["n"], part["metrics"].get(key), part["about"]) for name, part in one["cohorts"].items()]
    print_table(("people", "n", key, "who"), rows, title=kind)
    bounds, beside = one["intervals"][key], one["difference"]
    apart = beside["metrics"][key]
    typer.echo(f"{kind}: {key} {one['metrics'][key]:.4f}, 95% interval {bounds['low']:.4f} to {bounds['high']:.4f}.")
    between = "" if apart["low"] is None else f", 95% interval {apart['low']:+.4f} to {apart['high']:+.4f}"
    typer.echo(f"{kind} less {beside['against']}, person by person: {apart['mean']:+.4f}{between}.")
    settings = {name: value for name, value in one["config"].items() if not isinstance(value, dict)}
    said = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )
    typer.echo(f"{kind}: settings from {one['search']['settings_from']}: {said}")


def _on_lake(kinds: list[str], until: str, window: str, days: int, lengths: Sequence[int], *, json: bool) -> None:
    from datetime import timedelta

    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.evaluate import evaluate_kinds

    at = parse_date(until)
    assert at is not None
    looked_at, settings = parse_days(window), Settings()
    with steps(quiet=json) as say, ray_session(settings):
        metrics = evaluate_kinds(
            kinds, settings, until=at, window=looked_at, held_out=timedelta(days=days), lengths=lengths, say=say
        )
    if json:
        print_json({"metrics": metrics})
        return
    names = sorted({name for values in metrics.values() for name in values})
    rows = [(name, *(values.get(name) for values in metrics.values())) for name in names]
    print_table(("metric", *metrics), rows, title=f"baskets of the {days} days before {at:%Y-%m-%d}")
