"""One batch of recommendations as a command runs it: Ray, and a bar for the people that are done."""

from datetime import datetime

from runtime.progress import bars
from runtime.ray_local import ray_session
from serving.batch_files import BatchDone, BatchRequest, recommend_to_folder
from storage.settings import Settings


def recommend_batch(request: BatchRequest, settings: Settings, *, at: datetime, quiet: bool = False) -> BatchDone:
    """Make the lists of everybody in a file.

    Raises:
        BespokeError: as :func:`serving.batch_files.recommend_to_folder`.
    """
    with bars(quiet=quiet) as shown:
        task = shown.add_task("people", total=None)

        def tell(done: int, total: int) -> None:
            shown.update(task, completed=done, total=total)

        return recommend_to_folder(request, settings, at=at, session=lambda: ray_session(settings), on_progress=tell)
