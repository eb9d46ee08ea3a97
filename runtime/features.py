"""Work on features as a whole: their page, and an online store that is made anew from the lake."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from bespoke.events import UserId
from bespoke.features import FEATURES, SourceType
from bespoke.items import ITEM_FEATURES
from bespoke.profiles import STATE_COLUMNS
from bespoke.propensity.signals import RHYTHM
from storage.eventlog import open_event_log
from storage.features import OnlineFeatures, StateOfPerson, apply_feature_repo
from storage.features.items import ITEM_VIEW_COLUMNS, OnlineItems
from storage.lake import Lake
from storage.profiles import ProfileStore
from storage.settings import Settings

BATCH_ROWS = 256
PAGE = Path("docs/features.md")

OnProgress = Callable[[int, int], None]
"""People done, people in all."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    people: int
    """How many have a state."""
    written: int
    """How many of them were missing online or older there."""
    seconds: float
    items: int = 0
    """How many items have a state."""

    @property
    def rows_per_s(self) -> float:
        """People looked at per second."""
        return self.people / self.seconds if self.seconds else 0.0


def rebuild_online(settings: Settings, *, on_progress: OnProgress = lambda done, total: None) -> Rebuilt:
    """Give everybody's latest state, and every item's, to the online store, from the lake and the profile store.

    It may run beside a processor: versions are compared in the store itself, with no writer in between, so nothing that
    is newer online is replaced. Where the profile store has a state that is at least as new as the lake's, that one is
    taken, since segments can change without a message and states wait a while before they are in the lake. A second run
    writes nothing, and an interrupted one is simply repeated. The mark is left at the end: the store is whole again.

    Raises:
        Unavailable: a store cannot be reached; repeat it.
    """
    started = time.perf_counter()
    apply_feature_repo(settings)
    profiles, online = ProfileStore(settings.profiles_url), OnlineFeatures(settings)
    try:
        # States move from the outbox to the lake and never back: looking there first misses nobody.
        waiting = _waiting(settings, profiles)
        latest = Lake(settings.lake_dir).latest_states()
        waiting -= set(latest["user_id"].to_pylist())
        total, done, written = latest.num_rows + len(waiting), 0, 0
        for states in _batches(latest, waiting):
            written += online.push_newer(_truth(states, profiles))
            done += len(states)
            on_progress(done, total)
        items = _rebuild_items(settings, profiles)
        online.mark()
    finally:
        profiles.close()
        online.close()
    return Rebuilt(total, written, time.perf_counter() - started, items)


def _rebuild_items(settings: Settings, profiles: ProfileStore) -> int:
    online, count = OnlineItems(settings), 0
    try:
        for items in profiles.all_items(at_once=BATCH_ROWS):
            online.push(items)
            count += len(items)
    finally:
        online.close()
    return count


def _waiting(settings: Settings, profiles: ProfileStore) -> set[UserId]:
    """Return whose states wait in the profile store for the lake."""
    log = open_event_log(settings.log_url)
    try:
        partitions = range(log.partitions)
    finally:
        log.close()
    pending = {partition: profiles.states_pending(partition) for partition in partitions}
    rows = (row for number, one in pending.items() for row in profiles.take_states(number, one.next_offset))
    return {UserId(row.user_id) for row in rows}


def _batches(latest: pa.Table, waiting: set[UserId]) -> Iterator[list[StateOfPerson]]:
    for batch in latest.to_batches(max_chunksize=BATCH_ROWS):
        yield [_state(row) for row in batch.to_pylist()]
    left = iter(sorted(waiting))
    while some := list(islice(left, BATCH_ROWS)):
        # Nothing but who they are is known here; the profile store knows the rest.
        yield [StateOfPerson(user_id, 0, {}) for user_id in some]


def _state(row: dict[str, Any]) -> StateOfPerson:
    return StateOfPerson(row["user_id"], row["version"], row, tuple(row["segments"] or ()))


def _truth(states: Sequence[StateOfPerson], profiles: ProfileStore) -> list[StateOfPerson]:
    stored = profiles.load(state.user_id for state in states)
    truth = {id: StateOfPerson.of(row) for id, row in stored.items()}
    newest = (max(truth.get(state.user_id, state), state, key=lambda one: one.version) for state in states)
    return [state for state in newest if state.columns]


def features_page() -> str:
    """Return the page of everything that is declared of features, as Markdown."""
    return "\n".join([*_INTRODUCTION, *_features(), *_signals(), *_columns(), *_items()]) + "\n"


_INTRODUCTION = (
    "# Features",
    "",
    "Written by `bespoke features docs` from the declarations in `bespoke/features/`, `bespoke/profiles/` and",
    "`bespoke/items/`; a test holds this page, the Feast views, the lake and the declarations against one another. Do",
    "not edit it.",
    "",
    "Stores keep *state*; a feature is derived from it at the moment it is used, by the same function in training and",
    "in serving. Which columns of the state each kind of model reads stands in `feature_repo/services.py`. A state is",
    "used for two years after its newest event was received; after that the person is a stranger, and answers say",
    "`features_stale`.",
)


def _features() -> Iterator[str]:
    for source in SourceType:
        yield from ("", f"## {source.value.capitalize()}", "", *_table("feature", "type", "meaning", "unit"))
        for one in FEATURES:
            if one.source is source:
                yield _row(f"`{one.name}`", one.type.value, one.meaning, one.unit)


def _signals() -> Iterator[str]:
    yield from ("", "## Rhythm, for scores only", "", *_table("signal", "meaning", "unit"))
    for one in RHYTHM:
        yield _row(f"`{one.name}`", one.meaning, one.unit)


def _columns() -> Iterator[str]:
    yield from ("", "## State", "", "The columns of the Feast view `user_state` and of the lake's states.", "")
    yield from _table("column", "kind")
    for name, kind in {**STATE_COLUMNS, "version": "int", "segments": "strings"}.items():
        yield _row(f"`{name}`", kind)


def _items() -> Iterator[str]:
    yield from ("", "## Items", "", *_ABOUT_ITEMS)
    yield from ("", *_table("feature", "meaning", "unit"))
    for one in ITEM_FEATURES:
        yield _row(f"`{one.name}`", one.meaning, one.unit)
    yield from ("", "## State of items", "", "The columns of the Feast view `item_state`.", "")
    yield from _table("column", "kind")
    for name, kind in ITEM_VIEW_COLUMNS.items():
        yield _row(f"`{name}`", kind)


_ABOUT_ITEMS = (
    "What everybody together does with an item, in lines of events; nobody's id is in it. Windows of 24 hours go by",
    "whole hours, longer ones by whole UTC days. A refund or a removal from a cart counts as such and speaks for no",
    "item. A state is used for 60 days after the item's newest event was received. Each event counts exactly once,",
    "when it reaches the lake: within 10 seconds, or sooner where much comes in.",
)


def _table(*headings: str) -> tuple[str, str]:
    return _row(*headings), "|" + "---|" * len(headings)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
