"""Figures of data quality, worked out by hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bespoke.clock import HOUR_MS, WEEK_MS
from monitoring.quality import QualityRow, quality_figures
from storage.quality import CountKey, QualityStore

NOON_MS = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS
SPAN = {"since_ms": NOON_MS, "until_ms": NOON_MS + 2 * HOUR_MS}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QualityStore]:
    with QualityStore(f"sqlite:///{tmp_path / 'quality.db'}") as store:
        yield store


def put(store: QualityStore, *, at_ms: int = NOON_MS, name: str = "View", source: str = "shop", **counts: int) -> None:
    """Count; ``rejected__userId`` stands for ``rejected:userId``."""
    keys = {CountKey(at_ms, source, "track", name, what.replace("__", ":")): n for what, n in counts.items()}
    store.write(keys, now_ms=at_ms)


def only(store: QualityStore, **span: int) -> QualityRow:
    (row,) = quality_figures(store, **{**SPAN, **span})
    return row


def test_everything_that_was_counted_of_an_event_is_one_row(store: QualityStore) -> None:
    put(store, accepted=6, rejected__userId=1, violation__type__price=2, duplicate=3, near_duplicate=4, bot=5)
    put(store, at_ms=NOON_MS + HOUR_MS, accepted=4, rejected__event=2)
    row = only(store)
    assert (row.source, row.type, row.name, row.accepted) == ("shop", "track", "View", 10)
    assert row.rejected == {"userId": 1, "event": 2}
    assert row.violations == {"type:price": 2}
    assert (row.duplicates, row.near_duplicates, row.bots) == (3, 4, 5)


def test_shares_of_missing_properties_are_of_lines(store: QualityStore) -> None:
    put(store, accepted=2, lines=8, missing__price=2, missing__brand=8)
    assert only(store).missing == {"price": 0.25, "category": 0.0, "brand": 1.0, "quantity": 0.0}


def test_delays_are_read_off_their_ranges(store: QualityStore) -> None:
    # 60 up to 100 ms, 40 from 1 to 2 s: the 50th is 5/6 into the first range, the 95th 35/40 into the second.
    put(store, accepted=100, delay_sum_ms=70_000, delay__100=60, delay__2000=40)
    row = only(store)
    assert row.delay_mean_ms == 700
    assert row.delay_median_ms == pytest.approx(100 * 5 / 6)
    assert row.delay_p95_ms == pytest.approx(1_875)


def test_an_event_without_counts_has_no_delays(store: QualityStore) -> None:
    put(store, rejected__userId=1)
    row = only(store)
    assert (row.delay_mean_ms, row.delay_median_ms, row.delay_p95_ms, row.missing) == (None, None, None, {})


def test_the_volume_is_held_against_the_same_hours_of_earlier_weeks(store: QualityStore) -> None:
    for weeks, n in ((1, 100), (2, 200), (3, 300)):
        put(store, at_ms=NOON_MS - weeks * WEEK_MS, accepted=n)
        put(store, at_ms=NOON_MS - weeks * WEEK_MS + 2 * HOUR_MS, accepted=1_000)
    put(store, accepted=300)
    put(store, at_ms=NOON_MS + HOUR_MS, accepted=20)
    volume = only(store).volume
    assert (volume.accepted, volume.expected, volume.weeks, volume.ratio) == (320, 200, 3, 1.6)
    assert not volume.unusual


@pytest.mark.parametrize(("now", "unusual"), [(50, False), (49, True), (200, False), (201, True)])
def test_a_volume_outside_the_bounds_is_unusual(store: QualityStore, now: int, unusual: bool) -> None:
    put(store, at_ms=NOON_MS - WEEK_MS, accepted=100)
    put(store, accepted=now)
    assert only(store).volume.unusual is unusual


def test_an_event_that_stays_away_is_a_row_too(store: QualityStore) -> None:
    put(store, at_ms=NOON_MS - WEEK_MS, accepted=100)
    row = only(store)
    assert (row.accepted, row.volume.ratio, row.volume.unusual) == (0, 0.0, True)


def test_small_numbers_and_new_sources_are_not_unusual(store: QualityStore) -> None:
    put(store, at_ms=NOON_MS - WEEK_MS, accepted=3, source="small")
    put(store, accepted=9, source="small")
    put(store, accepted=500, source="new")
    volumes = {row.source: row.volume for row in quality_figures(store, **SPAN)}
    assert (volumes["small"].ratio, volumes["small"].unusual) == (3.0, False)
    assert (volumes["new"].expected, volumes["new"].weeks, volumes["new"].unusual) == (None, 0, False)


def test_a_week_in_which_the_source_sent_something_else_counts_as_none_of_this(store: QualityStore) -> None:
    put(store, at_ms=NOON_MS - 2 * WEEK_MS, accepted=1, name="Other")
    put(store, at_ms=NOON_MS - WEEK_MS, accepted=60)
    put(store, accepted=60)
    row = next(row for row in quality_figures(store, **SPAN) if row.name == "View")
    assert (row.volume.expected, row.volume.weeks, row.volume.ratio) == (30, 2, 2.0)


def test_the_hour_that_still_runs_counts_but_is_held_against_nothing(store: QualityStore) -> None:
    put(store, at_ms=NOON_MS - WEEK_MS, accepted=100)
    put(store, accepted=10)
    row = only(store, until_ms=NOON_MS + HOUR_MS // 2)
    assert (row.accepted, row.volume.expected, row.volume.unusual) == (10, None, False)
