"""Whatever is interrupted, every message counts once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bespoke.clock import SystemClock
from bespoke.errors import ConfigError, Unavailable
from bespoke.events import EVENT_FAILED, UserId
from ingestion import features as delivery
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from storage.eventlog import open_event_log
from storage.eventlog.base import FEATURES_GROUP, EventLog, Message
from storage.lake import Lake
from storage.profiles import Commit, ProfileStore, StoredProfile
from tests.support.messages import order, views


class Stores:
    """The stores of one installation, opened anew by each processor."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.log: EventLog = open_event_log(home / "log.db", partitions=2)
        self.profiles = ProfileStore(f"sqlite:///{home / 'profiles.db'}")
        self.lake = Lake(home / "lake")

    def processor(self, sink: "Sink | None" = None, *, batch: int = 10) -> Processor:
        writer = LakeWriter(self.lake, self.log, self.profiles)
        return Processor(
            self.log, self.profiles, writer, partitions=(0, 1), sink=sink, clock=SystemClock(), batch=batch
        )

    def close(self) -> None:
        self.log.close()
        self.profiles.close()

    def orders(self, user: str) -> int:
        return self.profiles.load([UserId(user)])[UserId(user)].profile.orders


class Sink:
    """A feature store in memory that can be out of reach."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredProfile] = {}
        self.pushes = 0
        self.down = False
        self.holds_mark = False

    def push(self, rows: Sequence[StoredProfile]) -> None:
        if self.down:
            raise Unavailable("the online store is down")
        self.pushes += 1
        self.rows.update((row.user_id, row) for row in rows)

    def marked(self) -> bool:
        if self.down:
            raise Unavailable("the online store is down")
        return self.holds_mark

    def mark(self) -> None:
        self.holds_mark = True

    def wipe(self) -> None:
        self.rows, self.holds_mark = {}, False


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(tmp_path / "home")
    yield opened
    opened.close()


def drain(processor: Processor) -> None:
    while processor.step():
        pass


def test_messages_become_profiles_features_and_lake_files(stores: Stores) -> None:
    sink = Sink()
    stores.log.append([order("u1", 1, "a", "b"), order("u2", 2, "a"), views("u1", 3, "c")])
    processor = stores.processor(sink)
    drain(processor)
    processor.close()
    assert stores.orders("u1") == 1
    assert len(sink.rows["u1"].profile.recent) == 3
    assert stores.lake.events().num_rows == 3
    assert set(stores.lake.latest_states()["user_id"].to_pylist()) == {"u1", "u2"}


def test_a_repeated_message_counts_once(stores: Stores) -> None:
    message = order("u1", 1, "a")
    stores.log.append([message, message])
    processor = stores.processor()
    drain(processor)
    stores.log.append([message])
    drain(processor)
    processor.close()
    assert stores.orders("u1") == 1
    assert stores.lake.events().num_rows == 1


def test_a_new_processor_goes_on_where_the_last_one_committed(stores: Stores) -> None:
    stores.log.append([order("u1", n, "a") for n in range(25)])
    stores.processor(batch=10).step()
    drain(stores.processor(batch=10))
    assert stores.orders("u1") == 25


def test_what_was_applied_but_not_filed_is_filed_after_a_crash(stores: Stores) -> None:
    repeated = order("u1", 3, "a")
    stores.log.append([*(order("u1", n, "a") for n in range(12)), repeated])
    drain(stores.processor(batch=5))  # no close: the lake writer's memory is lost, as at a kill
    assert stores.lake.events().num_rows == 0
    processor = stores.processor()
    processor.close()
    assert stores.lake.events().num_rows == 12
    assert stores.lake.latest_states()["events"].to_pylist() == [12]


def test_a_file_written_just_before_a_crash_is_written_anew_not_twice(stores: Stores) -> None:
    stores.log.append([order("u1", n, "a") for n in range(12)])
    processor = stores.processor()
    drain(processor)
    with pytest.MonkeyPatch.context() as killed:
        # As if the process had ended between the file and the note that it stands.
        killed.setattr(stores.profiles, "move_events_from", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            processor.close()
    assert stores.lake.events().num_rows == 12
    stores.log.append([order("u1", 12, "a")])
    again = stores.processor()
    drain(again)
    again.close()
    assert stores.lake.events().num_rows == 13


def test_features_catch_up_when_the_store_is_back(stores: Stores) -> None:
    sink = Sink()
    sink.down = True
    processor = stores.processor(sink)
    stores.log.append([order("u1", 1, "a")])
    drain(processor)
    assert "down" in (processor.features_behind or "")
    assert stores.log.positions(FEATURES_GROUP).get(0, 0) == 0
    sink.down = False
    processor.step()
    assert processor.features_behind is None
    assert "u1" in sink.rows
    assert dict(stores.log.positions(FEATURES_GROUP)) == processor.offsets


def test_features_that_are_online_are_not_pushed_again(stores: Stores) -> None:
    sink = Sink()
    stores.log.append([order("u1", 1, "a")])
    drain(stores.processor(sink))
    drain(stores.processor(sink))
    assert sink.pushes == 1


def test_a_record_that_cannot_be_read_is_told_and_passed_by(stores: Stores) -> None:
    stores.log.append([Message(key=UserId("u1"), message_id="bad", received_ms=1, payload=b"{")])
    stores.log.append([order("u1", 1, "a")])
    processor = stores.processor()
    drain(processor)
    processor.close()
    told = [event for event in stores.lake.events().to_pylist() if event["name"] == EVENT_FAILED]
    assert [event["person"] for event in told] == ["system"]
    assert "message_id" in told[0]["properties_json"]
    assert stores.orders("u1") == 1


def test_two_processors_cannot_both_commit(stores: Stores) -> None:
    stores.log.append([order("u1", n, "a") for n in range(4)])
    one, other = stores.processor(), stores.processor()
    drain(one)
    with pytest.raises(Exception, match="offset"):
        drain(other)
    assert stores.orders("u1") == 4


def test_an_online_store_that_lost_everything_is_filled_again(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CHECK_EVERY_S", 0.0)
    sink = Sink()
    stores.log.append([order(f"u{n}", 1, "a") for n in range(9)])
    processor = stores.processor(sink)
    drain(processor)
    sink.wipe()
    processor.step()
    assert len(sink.rows) == 9
    assert sink.holds_mark


def test_until_a_lost_store_is_full_again_no_token_is_honoured(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(delivery, "PUSH_ROWS", 2)
    monkeypatch.setattr(delivery, "PUSH_S", 0.0)
    sink = Sink()
    stores.log.append([order(f"u{n}", 1, "a") for n in range(9)])
    processor = stores.processor(sink)
    while not sink.holds_mark:
        processor.step()
        if not sink.holds_mark:
            assert set(stores.log.positions(FEATURES_GROUP).values()) == {0}
    assert dict(stores.log.positions(FEATURES_GROUP)) == processor.offsets


def test_ids_are_remembered_from_when_they_were_applied(stores: Stores) -> None:
    old = order("u1", 1, "a")
    stores.log.append([old])
    drain(stores.processor())
    stores.log.append([old])
    drain(stores.processor())  # a later process, which first forgets what is old
    assert stores.orders("u1") == 1


def test_a_log_that_was_not_applied_is_refused(stores: Stores, tmp_path: Path) -> None:
    stores.log.append([order("u1", n, "a") for n in range(9)])
    drain(stores.processor())
    stores.log.close()
    stores.log = open_event_log(tmp_path / "other.db", partitions=2)
    with pytest.raises(ConfigError, match="do not belong together"):
        stores.processor()


def test_without_the_profile_store_everything_follows_from_the_log_again(stores: Stores, tmp_path: Path) -> None:
    stores.log.append([order("u1", n, "a") for n in range(9)])
    first = stores.processor()
    drain(first)
    first.close()
    stores.profiles.close()
    stores.profiles = ProfileStore(f"sqlite:///{tmp_path / 'anew.db'}")
    again = stores.processor()
    drain(again)
    again.close()
    assert stores.orders("u1") == 9
    assert stores.lake.events().num_rows == 9
    assert stores.lake.latest_states().num_rows == 1


def test_files_of_days_that_are_over_are_merged(stores: Stores) -> None:
    processor = stores.processor()
    for n in range(3):
        stores.log.append([order("u1", n, "a")])
        drain(processor)
        processor.close()
    assert len(stores.lake.files("events")) == 3
    again = stores.processor()
    drain(again)
    again.close()
    assert len(stores.lake.files("events")) == 1
    assert stores.lake.events().num_rows == 3


def test_a_store_that_is_away_is_waited_for(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.processor.RETRY_S", 0.0)
    stores.log.append([order("u1", 1, "a")])
    processor, commit, tries = stores.processor(), stores.profiles.commit, []

    def away_at_first(batch: Commit) -> None:
        tries.append(batch)
        if len(tries) == 1:
            raise Unavailable("locked")
        commit(batch)

    monkeypatch.setattr(stores.profiles, "commit", away_at_first)
    processor.run(until=lambda: len(tries) == 2)
    assert stores.orders("u1") == 1
    assert stores.lake.events().num_rows == 1
