"""What people see while they wait: bars for imports and replays, a line for each step of a long job."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ingestion.importer import Progress as ImportProgress

console = Console(stderr=True)


def bars(*, quiet: bool = False) -> Progress:
    """Return progress bars that count and tell the time left."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
    )


@contextmanager
def import_progress(*, quiet: bool = False) -> Iterator[Callable[[ImportProgress], None]]:
    """Show how many messages an import has read, and how many are applied."""
    with bars(quiet=quiet) as shown:
        read, applied = shown.add_task("checked and logged"), shown.add_task("profiles and lake")

        def update(progress: ImportProgress) -> None:
            shown.update(read, completed=progress.read, total=max(progress.total, progress.read))
            shown.update(applied, completed=progress.applied, total=max(progress.total, progress.applied))

        yield update
        # What was left out by --since and --until is not missing.
        for task in shown.tasks:
            shown.update(task.id, total=task.completed)


@contextmanager
def steps(*, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yield a function that says a step, with the seconds since the beginning."""
    started = time.monotonic()

    def say(what: str) -> None:
        if not quiet:
            console.print(f"[dim]{time.monotonic() - started:7.1f} s[/dim]  {what}", highlight=False, soft_wrap=True)

    yield say
