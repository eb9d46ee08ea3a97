"""What the members of a segment take: popularity learned from their lines alone, published under a name of its own."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bespoke.errors import ConfigError, NotFound, TrainingError
from bespoke.models.popularity import Popularity
from bespoke.models.verdict import Verdict
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.profiles import ProfileStore
from storage.segments_file import load_segments
from storage.settings import Settings
from training.catalog import known_catalog
from training.dataset import fingerprint, histories, read_interactions, within
from training.evaluate import Say
from training.fit import FitRequest, fit_remotely
from training.golden import golden_check
from training.publish import About, publish
from training.windows import Windows

NOT_MEASURED = Verdict(
    passed=False, reasons=("not measured: a list of one segment has nothing to be held against",), forced=True
)


def require_segment(segment: str, *, kinds: Sequence[str], config_dir: Path) -> None:
    """Make sure that there can be such a list.

    Raises:
        ConfigError: another kind of model is asked for.
        NotFound: no such segment is defined.
    """
    if tuple(kinds) != (Popularity.kind,):
        raise ConfigError(f"--segment: got {', '.join(kinds)}, expected {Popularity.kind}; train the others without it")
    if segment not in (names := load_segments(config_dir).names):
        raise NotFound(f"no segment {segment!r}; there are: {', '.join(names) or 'none'}")


def publish_popular(
    segment: str, request: FitRequest, windows: Windows, settings: Settings, *, say: Say
) -> tuple[str, Verdict]:
    """Train popularity on what the people who are in ``segment`` now did in the window, and publish it.

    Returns:
        NAME@VERSION, and the verdict: not measured.

    Raises:
        TrainingError: nobody is in the segment, or its members did nothing with items in the window.
    """
    say(f"reading the lines of segment {segment}")
    lines = _lines_of(segment, windows, settings)
    fitted = fit_remotely(lines, request)
    golden_check(fitted.model, histories(lines, at_ms=windows.until_ms))
    # Drift is watched on models of everybody, so there is no reference here.
    catalog = known_catalog(settings, lines, at_ms=windows.until_ms)
    reference = publish(
        fitted.model,
        About(windows.seen(windows.until), fingerprint(lines), None, catalog),
        BundleStore(settings.bundles_dir),
        metrics={},
        measured=None,
        gate=NOT_MEASURED,
        parent=None,
        seed=request.seed,
        segment=segment,
    )
    say(f"published {reference}")
    return reference, NOT_MEASURED


def _lines_of(segment: str, windows: Windows, settings: Settings) -> pa.Table:
    """Return the members' lines of the window."""
    with closing(ProfileStore(settings.profiles_url)) as profiles:
        members = profiles.member_ids(segment)
    if not members:
        raise TrainingError(f"nobody is in segment {segment!r}; see who is in which: bespoke segments list")
    read = read_interactions(
        Lake(settings.lake_dir), since_ms=None, until_ms=windows.until_ms, cache=settings.cache_dir / "lines"
    )
    lines = within(read, since_ms=windows.until_ms - windows.length_ms, until_ms=None)
    lines = lines.filter(pc.is_in(lines["user_id"], value_set=pa.array(members, lines["user_id"].type)))
    if not lines.num_rows:
        raise TrainingError(
            f"the {len(members):,} members of segment {segment!r} did nothing with items in the "
            f"{windows.length.days} days before {windows.until:%Y-%m-%d}; widen --window, or choose another cut"
        )
    return lines
