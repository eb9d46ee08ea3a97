"""An import ends: with everything applied, or with a word on what stands in the way, and never with a process left."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import ingestion.applying
from bespoke.errors import BespokeError
from ingestion.importer import Progress, import_files
from ingestion.mapping import Mapping
from storage.lake import Lake
from storage.lock import OwnerLock
from storage.settings import Settings

MAPPING = Mapping.model_validate(
    {
        "name": "views",
        "events": {
            "event": "Product Viewed",
            "user_id": "u",
            "timestamp": "t",
            "product": {"product_id": "i"},
        },
    }
)


@pytest.fixture
def views(tmp_path: Path) -> Path:
    path = tmp_path / "views.csv"
    path.write_text("u,t,i\n" + "".join(f"u{n},2026-01-01,{n}\n" for n in range(50)))
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def once(act: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a progress callback that acts at the first call only."""
    acts = [act]
    return lambda _: acts.pop()() if acts else None


def is_worker(child: psutil.Process) -> bool:
    try:
        return "ingestion.worker" in child.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return False


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_worker(child)]


def await_end_of_workers() -> None:
    # Waiting for the process itself would take its exit status away from the importer.
    while workers():
        time.sleep(0.01)


def kill_worker() -> None:
    for worker in workers():
        worker.send_signal(signal.SIGKILL)
    await_end_of_workers()


def test_a_killed_processor_is_told_and_the_import_can_go_on(views: Path, settings: Settings) -> None:
    with pytest.raises(BespokeError, match=r"ended with status -9 .* run the import again"):
        import_files(views, MAPPING, settings, progress=once(kill_worker))
    import_files(views, MAPPING, settings)
    assert Lake(settings.lake_dir).events().num_rows == 50


def test_a_processor_that_waits_for_its_turn_is_started_again(views: Path, settings: Settings) -> None:
    lock = OwnerLock(settings.home / "processor.lock")
    lock.acquire()

    def free() -> None:
        await_end_of_workers()
        lock.release()

    import_files(views, MAPPING, settings, progress=once(free))
    assert Lake(settings.lake_dir).events().num_rows == 50


def test_an_owner_that_applies_nothing_is_told(
    views: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingestion.applying, "GIVE_UP_S", 4.0)
    with OwnerLock(settings.home / "processor.lock"), pytest.raises(BespokeError, match="applies nothing for 4 s"):
        import_files(views, MAPPING, settings)
    assert workers() == []


def test_an_interrupted_import_leaves_no_process(views: Path, settings: Settings) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_files(views, MAPPING, settings, progress=once(interrupt))
    assert workers() == []
    import_files(views, MAPPING, settings)
    assert Lake(settings.lake_dir).events().num_rows == 50
