"""Examples for propensity scores: people as they were known at some times in the past, and what came of it.

Every look back sees the state rows received before it and is labelled by the events of the horizon after it. A label
takes time to become known, so the parts of the window are kept apart: what came of the last training example is known
before validation begins, and what came of the last validation example before the test begins.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.clock import DAY_MS, from_ms
from bespoke.errors import TrainingError
from bespoke.events import SYSTEM_EVENTS, InteractionType
from bespoke.profiles import STATE_COLUMNS, Profile, from_row
from bespoke.propensity.config import PropensityConfig, Target
from bespoke.propensity.model import Examples
from bespoke.propensity.quality import LabelArray
from bespoke.propensity.signals import SIGNAL_NAMES, signals
from storage.lake import Lake
from storage.lake_latest import last_of_each

_BATCH_ROWS = 256


@dataclass(frozen=True, slots=True)
class Parts:
    """The looks back of one training, ascending."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()


def looks_back(*, since_ms: int, until_ms: int, config: PropensityConfig) -> tuple[int, ...]:
    """Return the times to look at people, ascending: the outcome of the last one is known at ``until_ms``."""
    last_ms, step_ms = until_ms - config.horizon_days * DAY_MS, config.step_days * DAY_MS
    return tuple(range(last_ms, since_ms - 1, -step_ms))[::-1]


def parted(looks: Sequence[int], config: PropensityConfig, *, tested: bool) -> Parts:
    """Return which looks back to learn from, to calibrate on and, where ``tested``, to test on; the latest ones last.

    Raises:
        TrainingError: there are too few.
    """
    held_out = max(round(config.held_out_share * len(looks)), 1)
    test = tuple(looks[-held_out:]) if tested else ()
    validation = _known_before(test, looks, config)[-held_out:]
    train = _known_before(validation, looks, config)
    if not train or not validation:
        days = 3 * (config.horizon_days + config.step_days)
        raise TrainingError(
            f"{len(looks)} looks back {config.horizon_days} days ahead each leave nothing to learn from; train on a "
            f"window of {days} days or more, or lower horizon_days, step_days or held_out_share"
        )
    return Parts(train, validation, test)


def _known_before(later: Sequence[int], looks: Sequence[int], config: PropensityConfig) -> tuple[int, ...]:
    """Return the looks whose outcome is known when ``later`` begins; all of them where there is no later part."""
    if not later:
        return tuple(looks)
    return tuple(look for look in looks if look + config.horizon_days * DAY_MS <= later[0])


def examples_of(lake_dir: Path, looks: Sequence[int], config: PropensityConfig) -> list[Examples]:
    """Return for each of ``looks``, ascending, who was active, as known then, and what they did in the horizon after.

    The state rows are walked once: a look sees the last row of each person among those received before it.

    Raises:
        Unavailable: the lake's files changed while they were read.
    """
    lake, known, since_ms = Lake(lake_dir), dict[str, Profile](), None
    found = []
    for look in looks:
        rows = lake.latest_states(until_ms=look) if since_ms is None else lake.states(since_ms, look)
        known = _still_active(known | _profiles(rows), look, config)
        ahead = lake.events(look, look + config.horizon_days * DAY_MS, columns=["person", "name", "interaction"])
        signal_NS = np.array([signals(one, look) for one in known.values()]).reshape(len(known), len(SIGNAL_NAMES))
        found.append(Examples(signal_NS, labels(list(known), ahead, config.target), look, look))
        since_ms = look
    return found


def _profiles(states: pa.Table) -> dict[str, Profile]:
    """Return each person's profile by the row of the greatest version."""
    latest = states.take(last_of_each(states["user_id"], states["version"].to_numpy()))
    # States are wide: a few at a time keep the memory flat.
    batches = latest.select(["user_id", *STATE_COLUMNS]).to_batches(max_chunksize=_BATCH_ROWS)
    return {row["user_id"]: from_row(row) for batch in batches for row in batch.to_pylist()}


def _still_active(known: Mapping[str, Profile], look: int, config: PropensityConfig) -> dict[str, Profile]:
    """Return who was heard of in the last days. The others come back with their next row, which is whole."""
    since_ms = look - config.active_days * DAY_MS
    return {person: one for person, one in known.items() if one.last_ms is not None and one.last_ms >= since_ms}


def labels(people: Sequence[str], ahead: pa.Table, target: Target) -> LabelArray:
    """Return for each of ``people`` whether it happened, by the events of the horizon.

    What the system did, such as a recommendation that it served, is no sign of life.
    """
    if target is Target.PURCHASE:
        counts = pc.equal(ahead["interaction"], InteractionType.PURCHASE.value)
    else:
        counts = pc.invert(pc.is_in(ahead["name"], value_set=pa.array(sorted(SYSTEM_EVENTS))))
    seen = set(ahead.filter(counts)["person"].to_pylist())
    happened = np.array([person in seen for person in people], dtype=np.bool_)
    return ~happened if target is Target.CHURN else happened


def joined(by_look: Mapping[int, Examples], looks: Sequence[int]) -> Examples:
    """Return the examples of ``looks``.

    Raises:
        TrainingError: nobody was known at any of them.
    """
    parts = [by_look[look] for look in looks if len(by_look[look])]
    if not parts:
        raise TrainingError(
            f"nobody was known between {from_ms(looks[0]):%Y-%m-%d} and {from_ms(looks[-1]):%Y-%m-%d}; states count "
            "from the day they were received, so import history as a replay, or choose a later --until"
        )
    return Examples.concat(parts)


def fingerprint(examples: Examples) -> str:
    """Return a hash of signals and labels: equal examples give the equal fingerprint."""
    digest = hashlib.sha256("\0".join(SIGNAL_NAMES).encode())
    digest.update(np.ascontiguousarray(examples.signal_NS).tobytes())
    digest.update(examples.label_N.tobytes())
    return digest.hexdigest()
