"""Counts wait in memory, within bounds, and are written beside the work."""

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from bespoke.clock import HOUR_MS
from bespoke.errors import Unavailable
from bespoke.events import Event, EventType, MessageId, lines_of
from storage import quality_counts
from storage.quality import CountKey, FailedEvent, QualityStore
from storage.quality_counts import MAX_NAMES, OTHER, EventTally, QualityCounts
from tests.contracts.quality import NOW_MS, failed


class AbsentStore(QualityStore):
    """A store that cannot be written until it is back, or whose writing breaks."""

    tried, back, broken = threading.Semaphore(0), False, False

    def write(self, added: Mapping[CountKey, int], failed: Iterable[FailedEvent] = (), *, now_ms: int) -> None:
        self.tried.release()
        if self.broken:
            raise RuntimeError("broken")
        if not self.back:
            raise Unavailable("gone")
        super().write(added, failed, now_ms=now_ms)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'home' / 'quality.db'}"


@pytest.fixture
def absent(url: str) -> AbsentStore:
    return AbsentStore(url)


def count(counts: QualityCounts, n: int = 1, *, name: str = "A", source: str = "shop") -> None:
    counts.add(at_ms=NOW_MS + 5, source=source, type="track", name=name, what="accepted", n=n)


def totals(url: str) -> dict[tuple[str, str], int]:
    with QualityStore(url) as store:
        found = store.totals(since_ms=0, until_ms=2 * NOW_MS)
    return {(key.source, key.name): n for key, n in found.items()}


def test_what_was_added_is_written_by_close_under_its_hour(url: str) -> None:
    counts = QualityCounts(url)
    counts.start()
    for n in range(100):
        count(counts, n)
    counts.keep([failed(0)])
    counts.close()
    with QualityStore(url) as store:
        assert store.totals(since_ms=NOW_MS, until_ms=NOW_MS + HOUR_MS) == {
            CountKey(NOW_MS, "shop", "track", "A", "accepted"): 4_950
        }
        assert store.failed(limit=9) == [failed(0)]


def test_it_is_written_while_it_runs(url: str, absent: AbsentStore) -> None:
    absent.back = True
    counts = QualityCounts(url, interval_s=0.001, open_store=lambda _: absent)
    counts.start()
    for _ in range(3):
        count(counts)
        assert AbsentStore.tried.acquire(timeout=10)
    counts.close()
    assert totals(url) == {("shop", "A"): 3}


def test_counts_wait_for_a_store_that_is_away_and_none_is_lost(url: str, absent: AbsentStore) -> None:
    counts = QualityCounts(url, open_store=lambda _: absent)
    for n in range(3):
        count(counts)
        counts.keep([failed(n)])
        assert not counts.flush()
    absent.back = True
    assert counts.flush()
    assert counts.flush()
    assert (totals(url), counts.written.dropped) == ({("shop", "A"): 3}, 0)
    with QualityStore(url) as store:
        assert store.failed(limit=9) == [failed(0), failed(1), failed(2)]


def test_a_store_that_cannot_be_opened_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    url = f"sqlite:///{tmp_path / 'home' / 'quality.db'}"
    counts = QualityCounts(url)
    count(counts)
    assert not counts.flush()
    (tmp_path / "home").unlink()
    counts.close()
    assert totals(url) == {("shop", "A"): 1}


def test_past_the_bounds_what_waits_is_dropped_and_counted(
    url: str, absent: AbsentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_counts, "MAX_KEYS", 2)
    monkeypatch.setattr(quality_counts, "MAX_FAILED_WAITING", 2)
    counts = QualityCounts(url, open_store=lambda _: absent)
    for round_ in range(2):
        for name in ("A", "B", "C"):
            count(counts, name=name)
        counts.keep(failed(3 * round_ + n) for n in range(3))
        counts.flush()
    assert (counts.written.dropped, counts.written.dropped_failed, counts.written.waiting) == (2, 4, 2)
    absent.back = True
    counts.close()
    assert totals(url) == {("shop", "A"): 2, ("shop", "B"): 2}


@pytest.mark.parametrize("state", ["away", "broken"])
def test_what_cannot_be_written_at_the_end_is_said_to_be_lost(
    url: str, absent: AbsentStore, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    absent.broken = state == "broken"
    counts = QualityCounts(url, open_store=lambda _: absent)
    count(counts, 5)
    counts.keep([failed(0)])
    counts.close()
    assert (counts.written.dropped, counts.written.dropped_failed) == (5, 1)
    assert "5 counts and 1 failed events were lost" in caplog.text


def test_too_many_names_count_as_others_by_hour_and_source(url: str) -> None:
    counts = QualityCounts(url)
    for n in range(MAX_NAMES + 30):
        count(counts, name=f"n{n}")
    count(counts, name="n0")
    count(counts, name="n5", source="app")
    counts.close()
    found = totals(url)
    assert (found["shop", "n0"], found["shop", OTHER], found["app", "n5"]) == (2, 30, 1)
    assert len(found) == MAX_NAMES + 2


def line_event(at_ms: int, *products: dict[str, object]) -> Event:
    properties = {"products": list(products)}
    lines = lines_of(EventType.TRACK, "Order Completed", properties)
    message_id = MessageId(f"m{at_ms}")
    return Event(message_id, EventType.TRACK, "Order Completed", "u", None, at_ms, 10_000, properties, lines=lines)


def test_a_tally_counts_delays_and_what_lines_lack() -> None:
    tally = EventTally()
    tally.add(
        line_event(10_000 - 100, {"product_id": "a", "price": 1, "quantity": 1}, {"product_id": "b", "category": "c"})
    )
    tally.add(line_event(10_000 - 101))
    tally.add(line_event(10_500, {"product_id": "a", "brand": "x", "quantity": 2, "category": "c", "price": 2}))
    counted = {what: n for (_, _, what), n in tally.tallies().items()}
    assert counted == {
        "accepted": 3,
        "delay_sum_ms": 201,
        "delay:100": 2,
        "delay:250": 1,
        "lines": 3,
        "missing:price": 1,
        "missing:category": 1,
        "missing:brand": 2,
        "missing:quantity": 1,
    }


def test_adding_from_many_threads_loses_nothing(url: str) -> None:
    counts = QualityCounts(url)
    flushing: Callable[[], object] = counts.flush

    def add_many() -> None:
        for _ in range(500):
            count(counts)

    threads = [threading.Thread(target=target) for target in (add_many, flushing) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.close()
    assert totals(url) == {("shop", "A"): 2_000}
