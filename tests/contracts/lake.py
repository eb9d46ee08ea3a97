"""What every lake promises; a new engine subclasses :class:`LakeContract` and gives an empty lake."""

from collections.abc import Sequence

import orjson
import pyarrow as pa
import pytest

from bespoke.catalog import Item
from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.errors import ConfigError
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import Profile, Recent, from_row, to_row
from storage.lake import Kind, Lake
from storage.lake_tables import EVENTS, INTERACTIONS, ITEMS, STATES, StateRow
from tests.contracts.profiles import FULL

DAY_0 = 20_454 * DAY_MS
"""2026-01-01."""


def purchase(n: int, *items: str, received_ms: int | None = None) -> Event:
    """Return the n-th event, one hour after the one before, of person ``u{n % 3}``."""
    at_ms = DAY_0 + n * HOUR_MS
    return Event(
        message_id=MessageId(f"m{n}"),
        type=EventType.TRACK,
        name="Order Completed" if items else "Signed Up",
        user_id=f"u{n % 3}",
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=at_ms if received_ms is None else received_ms,
        properties={"order": n, "products": [{"product_id": item} for item in items]},
        lines=tuple(Line(ItemId(item), 2.0, 0.5, "GROCERY") for item in items),
    )


def purchases(first: int, next: int) -> list[Event]:
    """Return the events of a range, each of one item named by its number."""
    return [purchase(n, str(n)) for n in range(first, next)]


def state(user: str, version: int, *, received_ms: int = DAY_0, profile: Profile | None = None) -> dict[str, object]:
    """Return a state row that counts as many events as its version."""
    kept = profile or Profile(events=version, received_ms=received_ms)
    return to_row(kept) | {"user_id": user, "version": version}


def offsets(lake: Lake) -> list[int]:
    """Return the offsets of all events, as read."""
    found: list[int] = lake.events(columns=["offset"])["offset"].to_pylist()
    return found


def compact_all(lake: Lake, kind: Kind, committed: int) -> int:
    """Compact every day; return how many files there are fewer."""
    return sum(lake.compact(kind, day, committed={0: committed, 1: committed}) for day in lake.days(kind))


class LakeContract:
    """Subclasses give the fixture ``lake``."""

    @pytest.fixture
    def lake(self) -> Lake:
        """Return an empty lake."""
        raise NotImplementedError

    def test_an_empty_lake_reads_as_empty_tables(self, lake: Lake) -> None:
        assert lake.events() == EVENTS.empty_table()
        assert lake.interactions() == INTERACTIONS.empty_table()
        assert lake.states() == lake.latest_states() == STATES.empty_table()
        assert lake.items() == ITEMS.empty_table()
        assert (lake.written("events", 0), lake.days("events"), lake.files("states")) == (0, [], [])

    def test_an_event_is_read_back_in_every_column(self, lake: Lake) -> None:
        lake.write_events(1, 7, 8, [purchase(5, "a", "b", received_ms=DAY_0)])
        (row,) = lake.events().to_pylist()
        assert (row["message_id"], row["type"], row["name"], row["person"]) == ("m5", "track", "Order Completed", "u2")
        assert (row["user_id"], row["anonymous_id"], row["interaction"]) == ("u2", None, "purchase")
        assert (row["at_ms"], row["received_ms"]) == (DAY_0 + 5 * HOUR_MS, DAY_0)
        assert row["event_time"].isoformat() == "2026-01-01T05:00:00+00:00"
        assert row["received_at"].isoformat() == "2026-01-01T00:00:00+00:00"
        assert row["lines"][1] == {"item_id": "b", "quantity": 2.0, "price": 0.5, "category": "GROCERY", "brand": None}
        assert (row["properties_json"], row["traits_json"], row["context_json"]) == ('{"order":5}', "{}", "{}")
        assert (row["partition"], row["offset"]) == (1, 7)

    def test_offsets_may_leave_messages_out(self, lake: Lake) -> None:
        lake.write_events(0, 10, 20, [purchase(1, "a"), purchase(2, "b")], [12, 19])
        assert offsets(lake) == [12, 19]
        assert lake.written("events", 0) == 20

    @pytest.mark.parametrize("placed", [None, [12], [9, 12], [12, 20]])
    def test_offsets_outside_the_range_are_refused(self, lake: Lake, placed: Sequence[int] | None) -> None:
        with pytest.raises(ConfigError, match="got 2 events for the offsets 10 to 20"):
            lake.write_events(0, 10, 20, [purchase(1, "a"), purchase(2, "b")], placed)

    def test_a_repeated_write_changes_nothing(self, lake: Lake) -> None:
        lake.write_events(0, 0, 30, purchases(0, 30))
        files, events = lake.files("events"), lake.events()
        lake.write_events(0, 0, 30, purchases(0, 30))
        assert (lake.files("events"), lake.events()) == (files, events)

    def test_events_lie_by_the_day_they_were_received(self, lake: Lake) -> None:
        lake.write_events(0, 0, 30, purchases(0, 30))
        assert [day.isoformat() for day in lake.days("events")] == ["2026-01-01", "2026-01-02"]
        assert [path.name for path in lake.files("events")] == ["p00-000000000000-000000000030.parquet"] * 2
        assert offsets(lake) == list(range(30))

    def test_intervals_of_event_time_are_half_open(self, lake: Lake) -> None:
        lake.write_events(0, 0, 30, purchases(0, 30))
        since, until = DAY_0 + 3 * HOUR_MS, DAY_0 + 5 * HOUR_MS
        assert lake.events(since, until)["offset"].to_pylist() == [3, 4]
        assert lake.events(until_ms=since)["offset"].to_pylist() == [0, 1, 2]
        assert lake.events(since_ms=DAY_0 + 28 * HOUR_MS, columns=["message_id"]).to_pylist() == [
            {"message_id": "m28"},
            {"message_id": "m29"},
        ]

    def test_late_events_are_found_by_when_they_happened(self, lake: Lake) -> None:
        lake.write_events(0, 0, 1, [purchase(2, "a", received_ms=DAY_0 + 9 * DAY_MS)])
        assert lake.events(DAY_0, DAY_0 + DAY_MS).num_rows == 1

    def test_interactions_have_one_row_per_line(self, lake: Lake) -> None:
        lake.write_events(0, 0, 3, [purchase(0, "a", "b"), purchase(1), purchase(2, "c")])
        rows = lake.interactions()
        assert rows.schema == INTERACTIONS
        assert rows["item_id"].to_pylist() == ["a", "b", "c"]
        assert rows["user_id"].to_pylist() == ["u0", "u0", "u2"]
        assert rows["at_ms"].to_pylist() == [DAY_0, DAY_0, DAY_0 + 2 * HOUR_MS]
        assert (
            rows.drop(["item_id", "user_id", "at_ms"]).to_pylist()
            == [{"interaction": "purchase", "quantity": 2.0, "price": 0.5, "category": "GROCERY"}] * 3
        )

    def test_interactions_of_an_interval(self, lake: Lake) -> None:
        lake.write_events(0, 0, 30, purchases(0, 30))
        found = lake.interactions(DAY_0 + 23 * HOUR_MS, DAY_0 + 25 * HOUR_MS)
        assert found["item_id"].to_pylist() == ["23", "24"]

    def test_anonymous_people_keep_the_id_that_keys_them(self, lake: Lake) -> None:
        lines = (Line(ItemId("x")),)
        event = Event(MessageId("m"), EventType.TRACK, "Product Viewed", None, "a1", DAY_0, DAY_0, lines=lines)
        lake.write_events(0, 0, 1, [event])
        assert lake.interactions().to_pylist()[0] == {
            "user_id": "anonymous:a1",
            "item_id": "x",
            "interaction": "view",
            "quantity": 1.0,
            "price": None,
            "category": None,
            "at_ms": DAY_0,
        }

    def test_a_state_is_read_back_as_the_profile_it_was(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("u1", 3, profile=FULL)])
        (row,) = lake.states().to_pylist()
        assert from_row(row) == FULL
        assert (row["user_id"], row["version"]) == ("u1", 3)
        assert row["event_timestamp"].isoformat() == "1970-01-01T00:00:00.010000+00:00"

    def test_rows_of_the_outbox_and_mappings_are_written_alike(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("u1", 3, profile=FULL)])
        lake.write_states(1, 0, 9, [StateRow("u1", 3, orjson.dumps(to_row(FULL)))])
        one, other = lake.states().to_pylist()
        assert one == other

    def test_huge_states_are_written(self, lake: Lake) -> None:
        recent = tuple(Recent(n, ItemId("i" * 250), "view", 1.0) for n in range(40_000))
        lake.write_states(0, 0, 9, [state("u1", 3, profile=Profile(received_ms=1, recent=recent))])
        assert from_row(lake.states().to_pylist()[0]).recent == recent

    def test_of_two_states_at_one_time_the_later_version_was_created_later(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("u1", 4), state("u1", 3)])
        assert lake.states()["version"].to_pylist() == [3, 4]
        first, second = lake.states()["created_timestamp"].to_pylist()
        assert first < second

    def test_states_of_an_interval_of_receipt_time(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("u1", n + 1, received_ms=DAY_0 + n * DAY_MS) for n in range(4)])
        found = lake.states(DAY_0 + DAY_MS, DAY_0 + 3 * DAY_MS, columns=["version"])
        assert found.to_pylist() == [{"version": 2}, {"version": 3}]

    def test_the_latest_state_of_each_person(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("a", 1), state("b", 2), state("a", 5, received_ms=DAY_0 + DAY_MS)])
        lake.write_states(0, 9, 19, [state("b", 12, received_ms=DAY_0 + 2 * DAY_MS)])
        lake.write_states(1, 0, 9, [state("c", 7)])
        latest = lake.latest_states()
        assert latest.schema == STATES
        assert {row["user_id"]: row["version"] for row in latest.to_pylist()} == {"a": 5, "b": 12, "c": 7}

    def test_the_latest_state_as_of_a_time(self, lake: Lake) -> None:
        lake.write_states(0, 0, 9, [state("a", n + 1, received_ms=DAY_0 + n * HOUR_MS) for n in range(5)])
        versions = [lake.latest_states(DAY_0 + n * HOUR_MS)["version"].to_pylist() for n in (0, 1, 4)]
        assert versions == [[], [1], [4]]

    def test_items_keep_their_latest_values(self, lake: Lake) -> None:
        lake.write_items([Item(ItemId("a"), name="old"), Item(ItemId("b"), category=("X", "Y"), price=1.5)], at_ms=1)
        lake.write_items([Item(ItemId("a"), name="new", available=False)], at_ms=2)
        rows = {row["item_id"]: row for row in lake.items().to_pylist()}
        assert (rows["a"]["name"], rows["a"]["available"]) == ("new", False)
        assert (rows["b"]["category"], rows["b"]["price"], rows["b"]["brand"]) == (["X", "Y"], 1.5, None)

    def test_the_catalog_is_what_was_written(self, lake: Lake) -> None:
        items = [Item(ItemId("a"), "A", ("X", "Y"), "B", 1.5, False, rebuy_after_days=7.0), Item(ItemId("b"))]
        lake.write_items(items, at_ms=1)
        assert lake.catalog() == items

    def test_discarding_removes_what_begins_at_the_offset_or_later(self, lake: Lake) -> None:
        for first in range(0, 50, 10):
            lake.write_events(0, first, first + 10, purchases(first, first + 10))
            lake.write_events(1, first, first + 10, purchases(first, first + 10))
        lake.discard_from("events", 0, 20)
        assert (lake.written("events", 0), lake.written("events", 1)) == (20, 50)
        assert offsets(lake).count(19) == 2
        assert offsets(lake).count(20) == 1

    @pytest.mark.parametrize("cut", range(0, 31, 3))
    def test_discarding_within_a_file_keeps_its_rows_before_the_offset(self, lake: Lake, cut: int) -> None:
        lake.write_events(0, 0, 30, purchases(0, 30))
        lake.write_states(0, 0, 30, [state("u", n + 1, received_ms=DAY_0 + n * HOUR_MS) for n in range(30)])
        lake.discard_from("events", 0, cut)
        lake.discard_from("states", 0, cut)
        assert offsets(lake) == list(range(cut))
        assert lake.states()["version"].to_pylist() == list(range(1, cut + 1))
        lake.write_events(0, cut, 30, purchases(cut, 30))
        assert sorted(offsets(lake)) == list(range(30))

    def test_compaction_changes_the_files_and_nothing_that_is_read(self, lake: Lake) -> None:
        for first in range(0, 40, 4):
            for partition in (0, 1):
                lake.write_events(partition, first, first + 4, purchases(first, first + 4))
        before = lake.events(), lake.interactions()
        assert compact_all(lake, "events", committed=40) == 20 - 4
        assert len(lake.files("events")) == 4
        assert (lake.events(), lake.interactions()) == before
        assert compact_all(lake, "events", committed=40) == 0

    def test_states_are_compacted_alike(self, lake: Lake) -> None:
        for n in range(10):
            lake.write_states(0, n, n + 1, [state(f"u{n % 2}", n + 1)])
        before = lake.states(), lake.latest_states()
        assert compact_all(lake, "states", committed=10) == 9
        assert (lake.states(), lake.latest_states()) == before

    def test_compaction_leaves_files_that_may_still_be_discarded(self, lake: Lake) -> None:
        for first in range(0, 20, 4):
            lake.write_events(0, first, first + 4, purchases(first, first + 4))
        compact_all(lake, "events", committed=10)
        lake.discard_from("events", 0, 10)
        assert offsets(lake) == list(range(10))

    def test_a_compacted_day_takes_more_files(self, lake: Lake) -> None:
        for first in range(0, 20, 5):
            lake.write_events(0, first, first + 5, purchases(first, first + 5))
            compact_all(lake, "events", committed=first + 5)
        assert offsets(lake) == list(range(20))
        assert len(lake.files("events")) == 1

    def test_selecting_columns_keeps_their_types(self, lake: Lake) -> None:
        lake.write_events(0, 0, 3, purchases(0, 3))
        assert lake.events(columns=["offset", "person"]).schema == pa.schema(
            [("offset", pa.int64()), ("person", pa.string())]
        )
