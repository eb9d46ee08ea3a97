"""What is left out changes nothing and is counted; what is added is in the lake too, after a crash as well."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from bespoke.catalog import Item
from bespoke.clock import SystemClock
from bespoke.duplicates import NearDuplicates
from bespoke.enrichment import CatalogStep, DeviceStep, Enrichment
from bespoke.events import Event, ItemId, UserId
from bespoke.parsing import encode_event, parse_event
from ingestion.intake import Intake
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from storage.eventlog import open_event_log
from storage.eventlog.base import EventLog, Message
from storage.lake import Lake
from storage.profiles import ProfileStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1"
CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


class House:
    """Stores, and a processor that enriches by device and catalog."""

    def __init__(self, home: Path) -> None:
        self.log: EventLog = open_event_log(home / "log.db", partitions=1)
        self.profiles = ProfileStore(f"sqlite:///{home / 'profiles.db'}")
        self.lake = Lake(home / "lake")
        self.counted: Counter[str] = Counter()
        catalog = {ItemId("tea"): Item(ItemId("tea"), category=("drinks",), brand="leaf", price=3.0)}
        enrichment = Enrichment((DeviceStep(), CatalogStep(lambda: catalog)))
        self.intake = Intake(enrichment, NearDuplicates(), self.count)

    def count(self, event: Event, what: str) -> None:
        self.counted[what] += 1

    def processor(self) -> Processor:
        writer = LakeWriter(self.lake, self.log, self.profiles, enrich=self.intake.enrich)
        return Processor(
            self.log, self.profiles, writer, partitions=(0,), sink=None, clock=SystemClock(), intake=self.intake
        )

    def views(self, *messages: tuple[str, float], agent: str = PHONE) -> None:
        for message_id, second in messages:
            message: dict[str, Any] = {
                "type": "track",
                "event": "Product Viewed",
                "messageId": message_id,
                "userId": "u",
                "timestamp": (NOW + timedelta(seconds=second)).isoformat(),
                "properties": {"product_id": "tea"},
                "context": {"userAgent": agent},
            }
            event = parse_event(message, received_at=NOW + timedelta(minutes=1))
            self.log.append([Message(event.person, event.message_id, event.received_ms, encode_event(event))])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path)
    yield built
    built.log.close()
    built.profiles.close()


def test_a_deed_told_twice_within_seconds_counts_once(house: House) -> None:
    house.views(("a", 0), ("b", 1.5), ("a", 0), ("c", 10))
    processor = house.processor()
    processor.step()
    processor.close()
    assert house.profiles.load([UserId("u")])[UserId("u")].profile.events == 2
    assert house.counted == {"near_duplicate": 1, "duplicate": 1}
    assert house.lake.events()["message_id"].to_pylist() == ["a", "c"]


def test_bots_change_no_profile(house: House) -> None:
    house.views(("a", 0), agent=CRAWLER)
    processor = house.processor()
    processor.step()
    assert house.profiles.load([UserId("u")]) == {}
    assert house.counted == {"bot": 1}


def test_what_is_added_reaches_profile_and_lake_also_after_a_crash(house: House) -> None:
    house.views(("a", 0))
    house.processor().step()
    processor = house.processor()
    processor.close()
    profile = house.profiles.load([UserId("u")])[UserId("u")].profile
    assert profile.devices["mobile"].events == 1
    assert [(entry.category, entry.brand, entry.price_micros) for entry in profile.recent] == [
        ("drinks", "leaf", 3_000_000)
    ]
    [row] = house.lake.events().to_pylist()
    assert row["lines"][0]["brand"] == "leaf"
    assert orjson.loads(row["context_json"])["device"]["type"] == "mobile"
