"""The demo: import real baskets, train, publish, serve a split, replay the next week, compare, watch."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bespoke.clock import to_ms
from bespoke.errors import ConfigError
from bespoke.events import person_id
from bespoke.models.bundle import read_bundle
from ingestion.importer import ImportResult, import_files
from ingestion.mapping import load_mapping
from ingestion.messages import Raw, event_messages
from runtime.demo.journey import data_folder
from runtime.demo.replay import Ranked, Replayed, rank_all, replay
from runtime.demo.summary import print_agreement, summarise, write_summary
from runtime.memory import PeakMemory
from runtime.progress import bars, import_progress, steps
from runtime.reports import report_drift
from runtime.up import Installation, Say, interrupt_on_sigterm, serve_until_stopped
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.lock import OwnerLock
from storage.profiles import ProfileStore
from storage.settings import Settings
from training.registry import promote, resolve
from training.train import TrainRequest, train_and_publish

MARKER = ".bespoke-demo"
MODELS = ("als", "blend", "buy_again", "popularity")
POINTERS = {"champion": "blend", "challenger": "buy_again", "popular": "popularity"}
WINDOW = timedelta(days=30)
MAPPING = Path("sources") / "complete_journey.toml"


@dataclass(frozen=True, slots=True)
class Demo:
    """One run of the demo."""

    settings: Settings
    cut: datetime
    until: datetime
    say: Say


def run_demo(*, home: Path, port: int, cut: datetime, days: int, stay: bool) -> None:
    """Run everything; then serve until Ctrl-C, or stop where ``stay`` is false.

    Raises:
        ConfigError: ``home`` holds something that no demo wrote.
    """
    started = time.monotonic()
    interrupt_on_sigterm()
    with OwnerLock(home.with_name(f"{home.name}.lock")):
        _empty(home)
        _run(home, port=port, cut=cut, days=days, stay=stay, started=started)


def _run(home: Path, *, port: int, cut: datetime, days: int, stay: bool, started: float) -> None:
    settings = Settings(home=home, http_port=port, replay=True).on_files()
    with steps() as say, PeakMemory(every_s=2.0) as memory:
        demo = Demo(settings, cut, cut + timedelta(days=days), say)
        with Installation(settings, say=say) as installation:
            imported = _import(demo)
            installation.start_ray()
            _train(demo)
            installation.start_services()
            replayed, ranked = _replay_and_rank(demo, installation)
            say("writing the drift report")
            drift = report_drift(settings, model="champion", at=demo.until)
            summary = summarise(
                imported,
                replayed,
                ranked,
                drift,
                kinds=POINTERS,
                seconds=time.monotonic() - started,
                peak_memory_mb=memory.mb,
            )
            print_agreement(summary, replayed, ranked)
            say(f"every figure: {write_summary(home, summary)}")
            if stay:
                serve_until_stopped(installation, say)


def _import(demo: Demo) -> ImportResult:
    demo.say(f"importing The Complete Journey up to {demo.cut:%Y-%m-%d}")
    mapping = load_mapping(demo.settings.config_dir / MAPPING)
    with import_progress() as progress:
        return import_files(data_folder(), mapping, demo.settings, until=demo.cut, progress=progress)


def _train(demo: Demo) -> None:
    # Every version serves or is ranked beside the others, whatever the gate says of it.
    request = TrainRequest(MODELS, demo.cut, WINDOW, force=True)
    references = train_and_publish(request, demo.settings, say=demo.say).references
    for pointer, kind in POINTERS.items():
        promote(demo.settings, references[kind], pointer=pointer, by="bespoke demo", reason="the demo's split")


def _replay_and_rank(demo: Demo, installation: Installation) -> tuple[Replayed, Ranked]:
    baskets = _baskets(demo)
    people = {person_id(str(basket.message["userId"]), None) for basket in baskets}
    store = ProfileStore(demo.settings.profiles_url)
    profiles = {person: stored.profile for person, stored in store.load(people).items()}
    store.close()
    installation.wait_until_applied()
    with _key(demo.settings, "ingest") as ingest_key, _key(demo.settings, "recommend") as recommend_key:
        demo.say(f"replaying {len(baskets):,} baskets over HTTP, at the data's own time")
        with bars() as shown:
            task = shown.add_task("recommend, then send basket", total=len(baskets))
            replayed = replay(
                baskets,
                url=installation.url,
                ingest_key=ingest_key,
                recommend_key=recommend_key,
                advance=lambda: shown.advance(task),
            )
    installation.wait_until_applied()
    demo.say("ranking every basket with every version")
    with bars() as shown:
        task = shown.add_task("rank with every version", total=len(baskets))
        ranked = rank_all(baskets, _models(demo.settings), profiles, advance=lambda: shown.advance(task))
    return replayed, ranked


def _baskets(demo: Demo) -> Sequence[Raw]:
    mapping = load_mapping(demo.settings.config_dir / MAPPING)
    assert mapping.events is not None
    between = (to_ms(demo.cut), to_ms(demo.until))
    return list(
        event_messages(data_folder(), mapping.events, name=mapping.name, since_ms=between[0], until_ms=between[1])
    )


def _models(settings: Settings) -> dict[str, Any]:
    store = BundleStore(settings.bundles_dir)
    folders = {kind: store.path(*resolve(settings, kind).split("@", 1)) for kind in MODELS}
    return {kind: read_bundle(folder).model for kind, folder in folders.items()}


@contextmanager
def _key(settings: Settings, scope: str) -> Iterator[str]:
    """Make a key for the time of the replay."""
    with ControlStore(settings.control_url) as control:
        info, secret = control.create_key(f"demo {scope}", [scope], datetime.now(UTC))
        yield secret
        control.revoke_key(info.key_id, datetime.now(UTC))


def _empty(home: Path) -> None:
    """Empty the demo's folder.

    Raises:
        ConfigError: it is not empty, and no demo has made it.
    """
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise ConfigError(f"{home} was not made by the demo and is not empty; choose another folder with --home")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700, parents=True)
    (home / MARKER).touch()
