"""The installation that the serving benchmarks measure: The Complete Journey, six models, the full pipeline.

It is made once, which takes minutes, and kept in ``BESPOKE_BENCH_HOME`` (by default a folder of the system's temporary
one). Every run works on a copy of its own, so that nothing that a run does is seen by the next. What stands already is
not made again: remove the folder after a change of what bundles hold.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from bespoke.errors import BespokeError
from ingestion.importer import import_files
from ingestion.mapping import load_mapping
from runtime.demo.journey import data_folder
from runtime.ray_local import ray_session
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.lock import OwnerLock
from storage.settings import Settings
from training.registry import promote
from training.train import TrainRequest, train_and_publish

ENVIRONMENT = "BESPOKE_BENCH_HOME"
CUT = datetime(2017, 11, 20, tzinfo=UTC)
WINDOW = timedelta(days=30)
POINTERS = {
    "champion": "als",
    "two_tower": "two_tower",
    "covisitation": "covisitation",
    "content": "content",
    "buy_again": "buy_again",
    "popular": "popularity",
}
TWO_TOWER_EPOCHS = 5
KEY = "benchmark"
SCOPES = ("ingest", "recommend", "profiles", "metrics")
_IMPORTED, _PUSHED, _SECRET, _PEOPLE = "imported", "pushed", "secret", "people.json"

_SOURCES = """
  {{ kind = "pointer", pointer = "{other}", budget = 200 }},
  {{ kind = "pointer", pointer = "covisitation" }},
  {{ kind = "pointer", pointer = "content" }},
  {{ kind = "pointer", pointer = "buy_again" }},
  {{ kind = "popular_in_category" }},
  {{ kind = "popular", fill = true }},
]
diversity = {{ mmr = 0.3, per_category = 3 }}
exploration = {{ share = 0.05 }}
"""
_HEAD = '[{name}]\nblend = "fusion"\nsources = [\n  {{ kind = "model", budget = 200, weight = 2.0 }},'
PIPELINES = "\n".join(
    (_HEAD + _SOURCES).format(name=name, other=other)
    for name, other in (("default", "two_tower"), ("two_tower_first", "champion"))
)
EXPERIMENTS = """
[als-two-tower]
salt = "als-two-tower-1"

[[als-two-tower.variants]]
name = "als"
share = 0.5
model = "champion"

[[als-two-tower.variants]]
name = "two_tower"
share = 0.5
model = "two_tower"
pipeline = "two_tower_first"
"""
RULES = """
[no_tobacco]
meaning = "Holds: nobody is offered tobacco"
exclude = { filter = "category == 'CIGARETTES'" }

[own_brand]
meaning = "Holds: one place in ten is for the own brand"
require = { filter = "brand == 'Private'", share = 0.1 }

[fresh]
meaning = "Holds: what is fresh moves up"
boost = { filter = "category in ('PRODUCE', 'MEAT')", factor = 1.2 }

[hero]
meaning = "On a page that nobody asks for: two items come first"
when = { surface = "campaign" }
pin = { items = ["1082185", "995242"], position = 1 }

[letters]
meaning = "In letters: nothing that melts"
when = { channel = "letter" }
exclude = { filter = "category == 'FROZEN GROCERY'" }

[vips]
meaning = "For a segment that nobody is in: more of the deli"
when = { segment = "vip" }
boost = { filter = "category == 'DELI'", factor = 2.0 }

[abroad]
meaning = "In another country: no alcohol"
when = { context = { country = ["NO"] } }
exclude = { filter = "category == 'SPIRITS'" }

[summer]
meaning = "Over since September"
starts = 2017-06-01T00:00:00Z
ends = 2017-09-01T00:00:00Z
boost = { filter = "category == 'SOFT DRINKS'", factor = 1.5 }

[night]
meaning = "At night: at most two of a brand"
when = { hours = [1, 4] }
cap = { per = "brand", at_most = 2 }

[off]
meaning = "Turned off"
enabled = false
bury = { filter = "category == 'DRUG GM'", factor = 0.5 }
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A prepared installation."""

    settings: Settings
    secret: str
    people: tuple[str, ...]
    """Every household that has bought something before the cut."""

    @property
    def at(self) -> str:
        """The time that requests name: right after the cut."""
        return CUT.isoformat()


def default_home() -> Path:
    """Return where the prepared installation is kept."""
    return Path(os.environ.get(ENVIRONMENT) or Path(tempfile.gettempdir()) / f"bespoke-bench-{os.getuid()}")


def prepared(home: Path) -> Site:
    """Return the installation at ``home``; what of it does not stand yet is made, but for what is online.

    Raises:
        BespokeError: a model cannot be trained.
    """
    home.mkdir(parents=True, exist_ok=True)
    with OwnerLock(home.with_name(f"{home.name}.lock"), timeout_s=1_800.0):
        settings = site_settings(home)
        write_config(settings.config_dir)
        if not (home / _IMPORTED).exists():
            _import(settings)
            (home / _IMPORTED).touch()
        _train(settings)
        if not (home / _SECRET).exists():
            with ControlStore(settings.control_url) as control:
                _, secret = control.create_key(KEY, SCOPES, datetime.now(UTC))
            (home / _SECRET).write_text(secret)
            (home / _SECRET).chmod(0o600)
    return read_site(home)


def read_site(home: Path) -> Site:
    """Return a prepared installation, at ``home`` or copied there."""
    people = tuple(orjson.loads((home / _PEOPLE).read_bytes()))
    return Site(site_settings(home), (home / _SECRET).read_text(), people)


def site_settings(home: Path, *, http_port: int = 8000) -> Settings:
    """Return the settings of an installation at ``home``, with every store a file, at the data's own time."""
    settings = Settings(home=home / "var", config_dir=home / "config", http_port=http_port, replay=True)
    return settings.on_files()


def is_pushed(home: Path) -> bool:
    """Return whether profiles are in the online store, and everybody has met the experiment."""
    return (home / _PUSHED).exists()


def mark_pushed(home: Path) -> None:
    """Remember that."""
    (home / _PUSHED).touch()


@contextmanager
def copied(home: Path) -> Iterator[Site]:
    """Yield a copy of a prepared installation, which is gone afterwards. Files that never change are linked."""
    with tempfile.TemporaryDirectory(prefix="bespoke-bench-") as folder:
        target = Path(folder)
        for name in ("config", _SECRET, _PEOPLE):
            _copy(home / name, target / name)
        (target / "var").mkdir()
        for path in (home / "var").iterdir():
            if path.name in ("lake", "bundles"):
                shutil.copytree(path, target / "var" / path.name, copy_function=os.link)
            elif path.name not in ("cache", "reports", "metrics") and not path.name.endswith(".lock"):
                _copy(path, target / "var" / path.name)
        yield read_site(target)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


def write_config(folder: Path) -> None:
    """Write the configuration: the shipped one with the full pipeline, ten rules and one experiment."""
    shutil.copytree(Path(__file__).parent.parent / "config", folder, dirs_exist_ok=True)
    (folder / "pipelines.toml").write_text(PIPELINES)
    (folder / "rules.toml").write_text(RULES)
    (folder / "experiments.toml").write_text(EXPERIMENTS)
    path = folder / "models" / "two_tower.toml"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(f"epochs = {TWO_TOWER_EPOCHS}" if line.startswith("epochs =") else line for line in lines)
    )


def _import(settings: Settings) -> None:
    shutil.rmtree(settings.home, ignore_errors=True)
    mapping = load_mapping(settings.config_dir / "sources" / "complete_journey.toml")
    import_files(data_folder(), mapping, settings, until=CUT)
    from storage.lake import Lake

    people = Lake(settings.lake_dir).interactions()["user_id"].unique().to_pylist()
    (settings.home.parent / _PEOPLE).write_bytes(orjson.dumps(sorted(person for person in people if person)))


def _train(settings: Settings) -> None:
    """Train the models that have no version yet, and point at each."""
    store = BundleStore(settings.bundles_dir)
    if missing := tuple(kind for kind in POINTERS.values() if not store.versions(kind)):
        with ray_session(settings):
            trained = train_and_publish(TrainRequest(missing, CUT, WINDOW, force=True), settings, say=print)
        if trained.errors:
            raise BespokeError("; ".join(f"{kind}: {why}" for kind, why in trained.errors.items()))
    for pointer, kind in POINTERS.items():
        promote(settings, f"{kind}@{store.versions(kind)[0]}", pointer=pointer, by=KEY, reason="set-up", force=True)


if __name__ == "__main__":
    import sys

    prepared(Path(sys.argv[1]) if len(sys.argv) > 1 else default_home())
