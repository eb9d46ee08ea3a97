"""The champion as an opponent: what serves now, as it would have answered without having seen the test days."""

from dataclasses import dataclass
from datetime import datetime

from bespoke.clock import to_ms
from bespoke.models.base import Model
from bespoke.models.bundle import Bundle, read_bundle
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings
from training.fit import FitRequest

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Opponent:
    """What to measure in the champion's place."""

    reference: str
    model: Model | None
    """The champion itself, where its training ended before the test days."""
    recipe: FitRequest | None
    """Otherwise its kind and settings, to be trained up to the test days."""


def find_champion(settings: Settings) -> Bundle | None:
    """Return the version that serves as champion; None where nothing does.

    Raises:
        BespokeError: there is one, but it cannot be read.
    """
    with ControlStore(settings.control_url) as control:
        reference = control.pointer(CHAMPION)
    if reference is None:
        return None
    return read_bundle(BundleStore(settings.bundles_dir).path(*reference.split("@", 1)))


def opponent(champion: Bundle, *, test_from: datetime) -> Opponent:
    """Return what stands for ``champion`` on the days from ``test_from`` on."""
    about = champion.manifest
    reference = f"{about.name}@{about.version}"
    if about.window.until <= test_from:
        return Opponent(reference, champion.model, None)
    length = about.window.until - about.window.since
    recipe = FitRequest(
        about.kind, champion.model.config, to_ms(test_from), round(length.total_seconds() * 1000), about.seed
    )
    return Opponent(reference, None, recipe)
