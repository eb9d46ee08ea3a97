"""Segments follow events and time: each transition is told once, and a restart changes nothing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bespoke.clock import FixedClock
from bespoke.events import SEGMENT_ENTERED, SEGMENT_LEFT, Event, UserId
from bespoke.parsing import encode_event, parse_event
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from ingestion.segment_desk import SegmentDesk
from storage.bundles import BundleStore
from storage.eventlog import open_event_log
from storage.eventlog.base import Message
from storage.lake import Lake
from storage.profiles import ProfileStore

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
CARTS = """
[carts]
meaning = "Has put something into the cart in the last 10 minutes"
all = [{ count = "Product Added", within = "10 minutes", at_least = 1 }]
"""
LOOKERS = """
[lookers]
meaning = "Has looked at two things and never put one into the cart"
all = [{ count = "Product Viewed", at_least = 2 }, { not = { count = "Product Added", at_least = 1 } }]
"""


class House:
    """An installation whose clock the test sets."""

    def __init__(self, home: Path, definitions: str) -> None:
        self.home, self.config = home, home / "config"
        self.config.mkdir(parents=True)
        self.define(definitions)
        self.clock = FixedClock(START)
        self.sizes: dict[str, int] = {}
        self.opened: list[Any] = []
        self.start()

    def define(self, definitions: str) -> None:
        (self.config / "segments.toml").write_text(definitions)

    def start(self) -> None:
        """Open everything anew, as a restarted process does."""
        self.log = open_event_log(self.home / "log.db", partitions=2)
        self.profiles = ProfileStore(f"sqlite:///{self.home / 'profiles.db'}")
        self.opened += [self.log, self.profiles]
        bundles = BundleStore(self.home / "bundles")
        self.desk = SegmentDesk(
            self.config,
            self.profiles,
            bundles,
            partitions=(0, 1),
            save_sizes=lambda sizes, at: self.sizes.update(sizes),
        )
        writer = LakeWriter(Lake(self.home / "lake"), self.log, self.profiles)
        self.processor = Processor(
            self.log, self.profiles, writer, partitions=(0, 1), sink=None, clock=self.clock, segments=self.desk
        )

    def send(self, user: str, number: int, name: str, *, minute: float) -> None:
        """Send an event that happened ``minute`` minutes after the start, now."""
        happened = START + timedelta(minutes=minute)
        message = {
            "type": "track",
            "event": name,
            "messageId": f"{user}-{number}",
            "userId": user,
            "timestamp": happened.isoformat(),
            "properties": {"product_id": f"i{number}"},
        }
        event = parse_event(message, received_at=self.clock.now())
        self.log.append([Message(event.person, event.message_id, event.received_ms, encode_event(event))])

    def at(self, minute: float) -> None:
        """Set the clock and let the processor work until nothing is left to do."""
        self.clock.set(START + timedelta(minutes=minute))
        while self.processor.step():
            pass

    def transitions(self) -> list[tuple[str, str, str]]:
        """Return person, what happened and why, of every transition in the log."""
        return [(event.person, str(event.name), event.properties["reason"]) for event in self.told()]

    def told(self) -> list[Event]:
        records = [record for part in (0, 1) for record in self.log.read(part, offset=0, limit=1_000)]
        events = [Event.from_payload(record.payload) for record in records]
        return [event for event in events if event.name in (SEGMENT_ENTERED, SEGMENT_LEFT)]

    def inside(self, user: str) -> tuple[str, ...]:
        return self.profiles.load([UserId(user)])[UserId(user)].segments


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = House(tmp_path / "home", CARTS)
    yield built
    for store in built.opened:
        store.close()


def test_an_event_lets_somebody_enter_and_time_lets_them_leave(house: House) -> None:
    house.send("u", 1, "Product Added", minute=0)
    house.at(0)
    assert house.inside("u") == ("carts",)
    house.at(9.99)
    assert house.transitions() == [("u", SEGMENT_ENTERED, "event")]
    house.at(10)
    assert house.transitions() == [("u", SEGMENT_ENTERED, "event"), ("u", SEGMENT_LEFT, "time")]
    assert house.inside("u") == ()


def test_a_timer_survives_a_restart(house: House) -> None:
    house.send("u", 1, "Product Added", minute=0)
    house.at(0)
    house.start()
    house.at(11)
    assert [reason for _, _, reason in house.transitions()] == ["event", "time"]


def test_a_transition_is_told_once_whatever_is_repeated(house: House) -> None:
    for number in (1, 1, 2):
        house.send("u", number, "Product Added", minute=0)
    house.at(0)
    house.start()
    house.at(1)
    assert house.transitions() == [("u", SEGMENT_ENTERED, "event")]


def test_every_transition_has_an_id_of_its_own(house: House) -> None:
    for minute in (0, 20, 40):
        house.at(minute)
        house.send("u", minute, "Product Added", minute=minute)
        house.at(minute)
    house.at(60)
    told = house.told()
    assert [event.properties["ordinal"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert len({event.message_id for event in told}) == 6


def test_a_late_event_yields_a_correction(house: House) -> None:
    house.define(LOOKERS)
    for number in (1, 2):
        house.send("u", number, "Product Viewed", minute=number)
    house.at(3)
    house.send("u", 3, "Product Added", minute=0)
    house.at(4)
    entered, left = house.told()
    assert (left.name, left.properties["reason"]) == (SEGMENT_LEFT, "late_event")
    assert left.properties["corrects"] == entered.message_id


def test_a_new_definition_is_held_against_everybody(house: House) -> None:
    for user in ("a", "b", "anonymous"):
        for number in (1, 2):
            house.send(user, number, "Product Viewed", minute=number)
    house.at(3)
    assert house.transitions() == []
    house.define(CARTS + LOOKERS)
    house.at(5)
    assert sorted(house.transitions()) == sorted(
        (user, SEGMENT_ENTERED, "definition") for user in ("a", "b", "anonymous")
    )


def test_a_withdrawn_definition_lets_everybody_leave(house: House) -> None:
    house.send("u", 1, "Product Added", minute=0)
    house.at(0)
    house.define("")
    house.at(1)
    assert house.transitions()[-1] == ("u", SEGMENT_LEFT, "definition")


def test_a_broken_file_leaves_the_definitions_as_they_were(house: House) -> None:
    house.at(0)
    house.define("[carts]\nall = [{ feature = 'revenu', above = 1 }]")
    house.send("u", 1, "Product Added", minute=0)
    house.at(1)
    assert house.inside("u") == ("carts",)
    assert house.desk.problem is not None and "revenu" in house.desk.problem


def test_a_review_is_not_begun_again_by_a_restart(house: House) -> None:
    house.send("u", 1, "Product Viewed", minute=0)
    house.at(0)
    house.start()
    house.desk.refresh(now_ms=0)
    assert list(house.desk.waiting(now_ms=0)) == []


def test_sizes_are_kept(house: House) -> None:
    house.send("u", 1, "Product Added", minute=0)
    house.at(0)
    house.at(2)
    assert house.sizes == {"carts": 1}


def test_transitions_change_no_profile(house: House) -> None:
    house.send("u", 1, "Product Added", minute=0)
    house.at(0)
    house.at(11)
    assert house.profiles.load([UserId("u")])[UserId("u")].profile.events == 1


def test_in_a_replay_time_is_that_of_the_messages(tmp_path: Path) -> None:
    house = House(tmp_path / "past", CARTS)
    writer = LakeWriter(Lake(house.home / "lake"), house.log, house.profiles)
    house.processor = Processor(
        house.log,
        house.profiles,
        writer,
        partitions=(0, 1),
        sink=None,
        clock=house.clock,
        segments=house.desk,
        data_time=True,
    )
    house.clock.set(START + timedelta(days=300))
    assert house.processor.step() == 0
    house.clock.set(START)
    house.send("u", 1, "Product Added", minute=0)
    house.clock.set(START + timedelta(days=300))
    while house.processor.step():
        pass
    assert house.inside("u") == ("carts",)
    for store in house.opened:
        store.close()


def test_the_store_agrees_with_what_was_told(house: House) -> None:
    house.define(CARTS + LOOKERS)
    for number in range(12):
        house.send(f"u{number % 3}", number, "Product Added" if number % 4 == 0 else "Product Viewed", minute=number)
        house.at(number)
    house.at(60)
    inside: Mapping[tuple[str, str], bool] = {
        (event.person, event.properties["segment"]): event.name == SEGMENT_ENTERED for event in house.told()
    }
    kept = house.profiles.memberships_of([UserId(f"u{n}") for n in range(3)])
    assert {key: member.inside for key, member in kept.items()} == inside
