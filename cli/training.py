"""Commands that train and measure models."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import parse_date, parse_days, print_json, print_table, say_if_new

Until = Annotated[str, typer.Option(help="The cut: nothing from this time on is seen.")]
Window = Annotated[str, typer.Option(help="How far back training looks, such as 30d.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command()(train)
    app.command()(evaluate)


def train(
    models: Annotated[list[str], typer.Argument(help="als, blend, buy_again or popularity; several at once.")],
    until: Until = "now",
    window: Window = "30d",
    config: Annotated[Path | None, typer.Option(help="Settings; config/models/MODEL.toml by default.")] = None,
    promote: Annotated[str | None, typer.Option(help="Point this at the new version, such as champion.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds and data give equal models.")] = 0,
    json: Json = False,
) -> None:
    """Train on the window before the cut, measure on its last week, train anew up to the cut, and publish."""
    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.registry import pointers
    from training.registry import promote as move
    from training.train import TrainRequest, check, train_and_publish

    at = parse_date(until)
    assert at is not None
    if promote is not None and len(models) != 1:
        raise typer.BadParameter("--promote points at one model; train the others in a command of their own")
    request, settings = TrainRequest(tuple(models), at, parse_days(window), config, seed), Settings()
    check(request, settings)
    with steps(quiet=json) as say, ray_session(settings):
        result = train_and_publish(request, settings, say=say)
    references, others = list(result.references.values()), pointers(settings)
    if promote is not None:
        move(settings, references[0], pointer=promote, by="bespoke train", reason="--promote")
    if json:
        print_json({"models": references, "metrics": result.metrics, "seconds": result.seconds})
        return
    if result.metrics:
        _print_metrics(result.metrics, title="the last week before the cut, trained on what was before it")
    if promote is not None:
        say_if_new(promote, others)


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Kinds to compare, such as: als buy_again popularity.")],
    until: Until = "now",
    window: Window = "30d",
    days: Annotated[int, typer.Option(min=1, help="Baskets of this many days before the cut are ranked.")] = 7,
    k: Annotated[str, typer.Option(help="Lengths of the lists, such as 10,20.")] = "20",
    json: Json = False,
) -> None:
    """Rank the last baskets before the cut with models that have not seen them."""
    from datetime import timedelta

    from runtime.progress import steps
    from runtime.ray_local import ray_session
    from storage.settings import Settings
    from training.evaluate import evaluate_kinds

    at = parse_date(until)
    assert at is not None
    lengths, looked_at, settings = _lengths(k), parse_days(window), Settings()
    with steps(quiet=json) as say, ray_session(settings):
        metrics = evaluate_kinds(
            models,
            settings,
            until=at,
            window=looked_at,
            held_out=timedelta(days=days),
            lengths=lengths,
            say=say,
        )
    if json:
        print_json({"metrics": metrics})
    else:
        _print_metrics(metrics, title=f"baskets of the {days} days before {at:%Y-%m-%d}")


def _print_metrics(metrics: dict[str, dict[str, float]], *, title: str) -> None:
    names = sorted({name for values in metrics.values() for name in values})
    print_table(
        ("model", *names), [(kind, *(values.get(n) for n in names)) for kind, values in metrics.items()], title=title
    )


def _lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(int(part) for part in text.split(","))
    except ValueError:
        lengths = ()
    if not lengths or min(lengths) < 1 or max(lengths) > 1000:
        raise typer.BadParameter(f"--k {text!r}: write whole numbers from 1 to 1000, such as 10,20")
    return lengths
