"""Two published versions, side by side: on baskets that neither has seen, where there are any."""

from dataclasses import dataclass
from datetime import datetime

from bespoke.clock import to_ms
from bespoke.errors import TrainingError
from bespoke.models.bundle import Bundle, read_bundle
from bespoke.models.verdict import Comparison
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.settings import Settings
from training.dataset import read_interactions
from training.evaluate import Metrics, Say, held_out_baskets, measure
from training.gate import compared
from training.registry import resolve
from training.train import LENGTHS


@dataclass(frozen=True, slots=True)
class Versions:
    """Two versions and what is known of how good they are."""

    references: tuple[str, str]
    manifests: tuple[Metrics, Metrics]
    """What each was measured at when it was made, maybe on different days."""
    measured: tuple[Metrics, Metrics] | None
    """On the same baskets, from after both cuts; None where there are none."""
    difference: Comparison | None
    """The first one less the second one, on those baskets."""
    since: datetime
    """The later of both cuts."""
    not_measured: str | None


def compare(one: str, other: str, settings: Settings, *, until: datetime, say: Say) -> Versions:
    """Rank the baskets between the later cut of two versions and ``until`` with both.

    Args:
        one: NAME@VERSION, NAME or a pointer.
        other: the same.
        settings: the installation.
        until: baskets up to, but without, this time.
        say: told each step.

    Raises:
        NotFound: there is no such version.
    """
    references = (resolve(settings, one), resolve(settings, other))
    store = BundleStore(settings.bundles_dir)
    first, second = (read_bundle(store.path(*reference.split("@", 1))) for reference in references)
    since = max(first.manifest.window.until, second.manifest.window.until)
    manifests = (first.manifest.metrics, second.manifest.metrics)
    try:
        measured, difference = _on_same_baskets(first, second, settings, since=since, until=until, say=say)
    except TrainingError as error:
        return Versions(references, manifests, None, None, since, str(error))
    return Versions(references, manifests, measured, difference, since, None)


def _on_same_baskets(
    first: Bundle, second: Bundle, settings: Settings, *, since: datetime, until: datetime, say: Say
) -> tuple[tuple[Metrics, Metrics], Comparison]:
    say("reading the lake")
    lake, at_ms = Lake(settings.lake_dir), to_ms(since)
    table = read_interactions(lake, since_ms=None, until_ms=to_ms(until), cache=settings.cache_dir / "lines")
    taken, known = held_out_baskets(table, at_ms=at_ms, until=until)
    say(f"ranking {len(taken):,} baskets from {since:%Y-%m-%d} on with both")
    ones, others = (measure(bundle.model, taken, known, at_ms=at_ms, lengths=LENGTHS) for bundle in (first, second))
    return (ones.means, others.means), compared(f"{second.manifest.name}@{second.manifest.version}", ones, others)
