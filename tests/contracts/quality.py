"""What every quality store promises; a new engine subclasses :class:`QualityStoreContract` and gives an address."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bespoke.clock import DAY_MS, HOUR_MS
from storage import quality
from storage.quality import COUNT_DAYS, FAILED_DAYS, CountKey, FailedEvent, QualityStore

NOW_MS = 1_700_000_000_000 - 1_700_000_000_000 % HOUR_MS


def key(
    what: str = "accepted", *, hour_ms: int = NOW_MS, source: str = "shop", name: str = "Product Viewed"
) -> CountKey:
    """Return the counter of one event."""
    return CountKey(hour_ms, source, "track", name, what)


def failed(number: int, *, source: str = "shop", reason: str = "userId", person: str = "u1") -> FailedEvent:
    """Return the ``number``-th failed event, received so many milliseconds after the others."""
    payload = b'{"messageId":"m%d"}' % number
    return FailedEvent(NOW_MS + number, source, reason, f"{reason}: got None", None, None, person, payload)


class QualityStoreContract:
    """Subclasses give the fixture ``url``: where a store can be created."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a store that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, url: str) -> Iterator[QualityStore]:
        """Return an empty store."""
        with QualityStore(url) as store:
            yield store

    def test_a_new_store_counts_nothing(self, store: QualityStore) -> None:
        assert store.totals(since_ms=0, until_ms=2 * NOW_MS) == {}
        assert (store.failed(limit=9), store.failed_by_reason(), store.first_hours()) == ([], [], {})

    def test_counts_of_two_writers_add_up(self, url: str, store: QualityStore) -> None:
        with QualityStore(url) as other, ThreadPoolExecutor(2) as pool:
            writing = [
                pool.submit(one.write, {key(): 1, key("bot"): 2}, now_ms=NOW_MS)
                for _ in range(20)
                for one in (store, other)
            ]
            for write in writing:
                write.result()
        assert store.totals(since_ms=NOW_MS, until_ms=NOW_MS + 1) == {key(): 40, key("bot"): 80}

    def test_totals_sum_the_hours_of_a_span_and_no_other(self, store: QualityStore) -> None:
        hours = {key(hour_ms=NOW_MS + n * HOUR_MS): 10**n for n in range(4)}
        store.write({**hours, key("bot", hour_ms=NOW_MS + HOUR_MS): 7}, now_ms=NOW_MS)
        since_ms, until_ms = NOW_MS + HOUR_MS, NOW_MS + 3 * HOUR_MS
        accepted = store.totals(since_ms=since_ms, until_ms=until_ms, what="accepted")
        assert accepted == {key(hour_ms=since_ms): 110}
        assert sum(store.totals(since_ms=since_ms, until_ms=until_ms).values()) == 117
        assert store.first_hours() == {"shop": NOW_MS}

    def test_failed_events_come_back_as_they_were_in_pages(self, store: QualityStore) -> None:
        kept = [failed(n) for n in range(5)]
        store.write({}, reversed(kept), now_ms=NOW_MS)
        first = store.failed(limit=2)
        rest = store.failed(limit=9, after=(first[-1].received_ms, first[-1].failed_id))
        assert first + rest == kept
        assert store.failed(limit=2, newest=True) == [kept[4], kept[3]]

    def test_failed_events_are_found_by_time_source_and_reason(self, store: QualityStore) -> None:
        store.write({}, [failed(0), failed(1, source="app"), failed(2, reason="event")], now_ms=NOW_MS)
        assert [one.received_ms - NOW_MS for one in store.failed(since_ms=NOW_MS + 1, limit=9)] == [1, 2]
        assert [one.source for one in store.failed(source="app", limit=9)] == ["app"]
        assert store.failed_by_reason() == [("event", "shop", 1), ("userId", "app", 1), ("userId", "shop", 1)]
        assert store.failed_by_reason(reason="event", source="app") == []

    def test_a_message_that_is_sent_again_is_kept_once(self, store: QualityStore) -> None:
        again = FailedEvent(NOW_MS + 99, "shop", "userId", "", None, '"later"', "u1", failed(0).payload)
        store.write({}, [failed(0), failed(0)], now_ms=NOW_MS)
        store.write({}, [again], now_ms=NOW_MS)
        assert store.failed(limit=9) == [failed(0)]

    def test_what_databases_cannot_carry_is_kept_readable(self, store: QualityStore) -> None:
        odd = FailedEvent(NOW_MS, "sh\x00op", "properties.\x00", "\x00", "track", None, "\x00", b"\x00\xff")
        store.write({}, [odd], now_ms=NOW_MS)
        (kept,) = store.failed(limit=1)
        assert (kept.payload, kept.source, kept.failed_id) == (b"\x00\xff", "sh\\x00op", odd.failed_id)
        store.drop_failed([kept.failed_id])
        assert store.failed(limit=1) == []

    def test_reasons_are_said_anew(self, store: QualityStore) -> None:
        store.write({}, [failed(0), failed(1)], now_ms=NOW_MS)
        store.set_reasons([(failed(1).failed_id, "event", "why")])
        store.set_reasons([])
        assert [(one.reason, one.error) for one in store.failed(limit=9)] == [
            ("userId", "userId: got None"),
            ("event", "why"),
        ]

    def test_thousands_are_dropped_at_once(self, store: QualityStore) -> None:
        store.write({}, map(failed, range(1_200)), now_ms=NOW_MS)
        store.drop_failed([failed(n).failed_id for n in range(1, 1_200)])
        store.drop_failed([])
        assert store.failed(limit=9) == [failed(0)]

    def test_a_persons_failed_events_are_erased(self, store: QualityStore) -> None:
        store.write({}, [failed(0), failed(1, person="u2"), failed(2)], now_ms=NOW_MS)
        assert store.erase("u1") == 2
        assert store.failed(limit=9) == [failed(1, person="u2")]

    def test_what_is_past_its_time_goes(self, store: QualityStore) -> None:
        store.write({key(): 1}, [failed(0)], now_ms=NOW_MS)
        later_ms = NOW_MS + FAILED_DAYS * DAY_MS + 1
        store.write({key(hour_ms=NOW_MS + COUNT_DAYS * DAY_MS): 2}, [failed(1)], now_ms=later_ms)
        assert store.trim(now_ms=later_ms - 1) == 0
        assert store.trim(now_ms=later_ms) == 1
        assert (store.failed(limit=9), len(store.totals(since_ms=0, until_ms=2 * NOW_MS))) == ([failed(1)], 1)
        store.write({key(hour_ms=NOW_MS + COUNT_DAYS * DAY_MS + HOUR_MS): 4}, now_ms=later_ms)
        store.trim(now_ms=later_ms)
        assert sum(store.totals(since_ms=0, until_ms=2 * NOW_MS).values()) == 6

    def test_past_their_number_the_oldest_go(self, store: QualityStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(quality, "MAX_FAILED", 3)
        for n in range(5):
            store.write({}, [failed(n)], now_ms=NOW_MS + n)
        assert store.trim(now_ms=NOW_MS) == 2
        assert store.failed(limit=9) == [failed(2), failed(3), failed(4)]
