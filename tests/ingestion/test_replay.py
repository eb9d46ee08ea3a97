"""Failed events get another try: what is good now comes in exactly once, the rest says why not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from bespoke.clock import MINUTE_MS, FixedClock, to_ms
from bespoke.events import Event, UserId
from bespoke.tracking import TrackingPlan, read_plan
from ingestion.replay import replay_failed
from storage.eventlog import EventLog, open_event_log
from storage.quality import FailedEvent, QualityStore

RECEIVED = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECEIVED_MS = to_ms(RECEIVED)


def plan(kind: str) -> TrackingPlan:
    """Return a plan in which prices of views are of ``kind``."""
    properties = {"price": {"type": kind}}
    return read_plan({"on_violation": "block", "events": {"Product Viewed": {"properties": properties}}})


def failed(number: int = 0, *, source: str = "shop", sent_at: str | None = None, **changes: Any) -> FailedEvent:
    message = {
        "type": "track",
        "event": "Product Viewed",
        "messageId": f"m{number}",
        "userId": "u1",
        "properties": {"product_id": "p", "price": 1.5},
        **changes,
    }
    payload = orjson.dumps(message)
    return FailedEvent(RECEIVED_MS + number, source, "plan:type:price", "why", None, sent_at, "u1", payload)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QualityStore]:
    with QualityStore(f"sqlite:///{tmp_path / 'quality.db'}") as store:
        yield store


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = open_event_log(tmp_path / "log.db")
    yield log
    log.close()


def events(log: EventLog) -> list[Event]:
    records = [record for n in range(log.partitions) for record in log.read(n, offset=0, limit=10_000)]
    return [Event.from_payload(record.payload) for record in records]


def test_what_the_plan_lets_pass_now_comes_in_once_as_it_was_received(store: QualityStore, log: EventLog) -> None:
    store.write({}, [failed(), failed(1, source="app")], now_ms=RECEIVED_MS)
    assert replay_failed(store, log, plan("string")).replayed == 0
    assert replay_failed(store, log, plan("number")).replayed == 2
    assert replay_failed(store, log, plan("number")).replayed == 0
    found = [(event.message_id, event.received_ms - RECEIVED_MS, event.source) for event in events(log)]
    assert found == [("m0", 0, "shop"), ("m1", 1, "app")]
    assert store.failed(limit=9) == []


def test_what_still_fails_stays_with_its_present_reason(store: QualityStore, log: EventLog) -> None:
    store.write({}, [failed(), failed(1, userId=None), failed(2, event="Unheard Of")], now_ms=RECEIVED_MS)
    result = replay_failed(store, log, plan("string"))
    assert (result.replayed, result.left) == (1, 2)
    assert result.reasons == {"plan:type:price": 1, "userId": 1}
    assert {one.reason: one.error[:13] for one in store.failed(limit=9)} == {
        "plan:type:price": "properties.pr",
        "userId": "userId: got N",
    }


def test_a_dry_run_changes_nothing(store: QualityStore, log: EventLog) -> None:
    store.write({}, [failed(), failed(1, userId=None)], now_ms=RECEIVED_MS)
    result = replay_failed(store, log, None, dry_run=True)
    assert (result.replayed, result.left) == (1, 1)
    assert events(log) == []
    assert [one.reason for one in store.failed(limit=9)] == ["plan:type:price"] * 2


def test_only_what_is_asked_for_is_tried(store: QualityStore, log: EventLog) -> None:
    store.write({}, [failed(), failed(1, source="app"), failed(2)], now_ms=RECEIVED_MS)
    assert replay_failed(store, log, None, source="app").replayed == 1
    assert replay_failed(store, log, None, reason="userId").replayed == 0
    assert replay_failed(store, log, None, reason="plan:type:price", since_ms=RECEIVED_MS + 1).replayed == 1
    assert [event.message_id for event in events(log)] == ["m1", "m2"]


def test_the_senders_clock_is_corrected_as_it_would_have_been(store: QualityStore, log: EventLog) -> None:
    late = failed(sent_at='"2026-03-01T08:05:00Z"', timestamp="2026-03-01T08:00:00Z")
    store.write({}, [late], now_ms=RECEIVED_MS)
    replay_failed(store, log, None)
    assert [event.at_ms for event in events(log)] == [RECEIVED_MS - 5 * MINUTE_MS]


def test_pages_of_good_and_bad_ones_are_all_tried(store: QualityStore, log: EventLog) -> None:
    store.write({}, [failed(n, userId="u1" if n % 2 else None) for n in range(1_300)], now_ms=RECEIVED_MS)
    result = replay_failed(store, log, None)
    assert (result.replayed, result.left, len(events(log))) == (650, 650, 650)
    assert len(store.failed(limit=2_000)) == 650


def test_one_that_was_too_large_to_keep_says_so(store: QualityStore, log: EventLog) -> None:
    store.write({}, [FailedEvent(RECEIVED_MS, "shop", "message", "", None, None, "", b"")], now_ms=RECEIVED_MS)
    assert replay_failed(store, log, None).reasons == {"message": 1}


class KilledStore(QualityStore):
    """A store whose process is killed before it removes anything."""

    def drop_failed(self, failed_ids: Any) -> None:
        raise KeyboardInterrupt


def test_a_replay_that_was_killed_in_between_counts_once_in_the_profile(
    store: QualityStore, log: EventLog, tmp_path: Path
) -> None:
    from ingestion.lakewriter import LakeWriter
    from ingestion.processor import Processor
    from storage.lake import Lake
    from storage.profiles import ProfileStore

    store.write({}, [failed()], now_ms=RECEIVED_MS)
    with KilledStore(f"sqlite:///{tmp_path / 'quality.db'}") as killed, pytest.raises(KeyboardInterrupt):
        replay_failed(killed, log, None)
    assert replay_failed(store, log, None).replayed == 1
    assert len(events(log)) == 2
    profiles = ProfileStore(f"sqlite:///{tmp_path / 'profiles.db'}")
    lake = LakeWriter(Lake(tmp_path / "lake"), log, profiles)
    processor = Processor(log, profiles, lake, partitions=range(log.partitions), sink=None, clock=FixedClock(RECEIVED))
    processor.step()
    assert profiles.load([UserId("u1")])[UserId("u1")].profile.events == 1
    profiles.close()
