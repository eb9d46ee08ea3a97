"""What every profile store promises; a new engine subclasses :class:`ProfileStoreContract` and gives an address."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import orjson
import pytest

from bespoke.events import ItemId, UserId
from bespoke.profiles import Profile, Recent, Trait, to_row
from storage.eventlog import Message
from storage.profiles import Commit, Membership, ProfileStore, StoredProfile
from storage.sql import Superseded

OpenStore = Callable[[], ProfileStore]

# Commits one message after the other until it is killed, and tells each offset that was committed.
COMMIT_FOREVER = """
import sys
from bespoke.profiles import Profile
from storage.eventlog import Message
from storage.profiles import Commit, Membership, ProfileStore, StoredProfile
store = ProfileStore(sys.argv[1])
n = store.committed(0)
while True:
    person = StoredProfile("u1", Profile(events=n + 1), n + 1, 0)
    store.commit(Commit(0, n, n + 1, [person], [(f"m{n}", n)], [Message("u1", f"e{n}", n, b"")]))
    n += 1
    print(n, flush=True)
"""

FULL = Profile(
    first_ms=1,
    last_ms=9,
    received_ms=10,
    events=3,
    orders=1,
    revenue_micros=2_500_000,
    recent=(Recent(1, ItemId("a"), "view", 1.0), Recent(9, ItemId("é"), "purchase", 2.5)),
    day_counts={(0, "view"): 1, (0, "purchase"): 1},
    category_counts={(0, "GROCERY"): 2},
    traits={"city": Trait(5, '"Graz"')},
)


def stored(user: str, version: int, profile: Profile | None = None, *, partition: int = 0) -> StoredProfile:
    """Return a person as of ``version``; the profile counts as many events unless given."""
    return StoredProfile(UserId(user), profile or Profile(events=version, received_ms=version), version, partition)


def batch(
    first: int, next: int, *profiles: StoredProfile, partition: int = 0, events: Sequence[Message] = ()
) -> Commit:
    """Return a commit whose messages are called m0, m1, ... by offset."""
    message_ids = [(f"m{offset}", offset) for offset in range(first, next)]
    return Commit(partition, first, next, profiles, message_ids, events)


class ProfileStoreContract:
    """Subclasses give the fixture ``url``: where a store can be created."""

    @pytest.fixture
    def url(self) -> str:
        """Return the address of a store that does not exist yet."""
        raise NotImplementedError

    @pytest.fixture
    def open_store(self, url: str) -> Iterator[OpenStore]:
        """Return what opens the store; everything that it opened is closed at the end."""
        opened: list[ProfileStore] = []

        def open_one() -> ProfileStore:
            opened.append(ProfileStore(url))
            return opened[-1]

        yield open_one
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_store: OpenStore) -> ProfileStore:
        """Return an empty store."""
        return open_store()

    def test_a_new_store_starts_at_offset_zero(self, store: ProfileStore) -> None:
        assert store.committed(3) == 0
        assert store.load([UserId("u1")]) == {}
        assert store.applied(3, ["m0"]) == set()
        assert store.states_pending(3) == (0, 0, 0)

    def test_a_profile_is_read_back_as_it_was_committed(self, store: ProfileStore) -> None:
        store.commit(batch(0, 2, stored("u1", 2, FULL)))
        assert store.load([UserId("u1"), UserId("nobody")]) == {"u1": StoredProfile(UserId("u1"), FULL, 2, 0)}

    def test_a_commit_moves_the_offset_and_remembers_its_messages(self, store: ProfileStore) -> None:
        store.commit(batch(0, 5, stored("u1", 5)))
        assert store.committed(0) == 5
        assert store.applied(0, ["m0", "m4", "m5"]) == {"m0", "m4"}

    def test_partitions_are_kept_apart(self, store: ProfileStore) -> None:
        store.commit(batch(0, 5, stored("u1", 5)))
        assert (store.committed(1), store.applied(1, ["m0"]), store.states_pending(1)) == (0, set(), (0, 0, 0))

    def test_a_later_version_replaces_an_earlier_one(self, store: ProfileStore) -> None:
        store.commit(batch(0, 1, stored("u1", 1)))
        store.commit(batch(1, 2, stored("u1", 2, FULL)))
        assert store.load([UserId("u1")])[UserId("u1")] == stored("u1", 2, FULL)

    @pytest.mark.parametrize("first", [0, 1, 3])
    def test_a_batch_that_does_not_follow_is_refused_whole(self, store: ProfileStore, first: int) -> None:
        store.commit(batch(0, 2, stored("u1", 2)))
        event = Message(UserId("u1"), "e", 1, b"")
        late = Commit(0, first, 9, [stored("u1", 9)], [("new", 1)], [event], [7])
        with pytest.raises(Superseded, match=f"batch from offset {first}, but 2 is next"):
            store.commit(late)
        assert (store.committed(0), store.applied(0, ["new"]), store.pending_events(9)) == (2, set(), [])
        assert store.load([UserId("u1")])[UserId("u1")].version == 2
        assert store.states_pending(0) == (1, 0, 2)
        assert store.skipped(0, 0, 9) == set()

    def test_a_batch_without_effects_still_moves_the_offset(self, store: ProfileStore) -> None:
        store.commit(Commit(0, 0, 4, [], [], []))
        assert store.committed(0) == 4

    def test_everything_survives_reopening(self, open_store: OpenStore) -> None:
        store = open_store()
        store.commit(batch(0, 2, stored("u1", 2, FULL), events=[Message(UserId("u1"), "e1", 1, b"x")]))
        store.close()
        again = open_store()
        assert again.committed(0) == 2
        assert again.load([UserId("u1")])[UserId("u1")].profile == FULL
        assert [message.message_id for _, message in again.pending_events(9)] == ["e1"]

    def test_thousands_of_ids_are_looked_up_at_once(self, store: ProfileStore) -> None:
        people = [stored(f"u{n}", n + 1) for n in range(25_000)]
        store.commit(batch(0, 25_000, *people))
        assert len(store.load(person.user_id for person in people)) == 25_000
        assert len(store.applied(0, (f"m{n}" for n in range(30_000)))) == 25_000

    def test_committed_profiles_wait_for_their_push_oldest_first(self, store: ProfileStore) -> None:
        store.commit(batch(0, 3, stored("c", 3), stored("a", 1), stored("b", 2)))
        assert [person.user_id for person in store.unpushed([0], limit=2)] == ["a", "b"]
        assert store.unpushed([1, 2], limit=9) == []
        assert store.unpushed([], limit=9) == []

    def test_pushed_profiles_wait_no_longer(self, store: ProfileStore) -> None:
        store.commit(batch(0, 2, stored("a", 1), stored("b", 2)))
        store.mark_pushed([(UserId("a"), 1)])
        assert [person.user_id for person in store.unpushed([0], limit=9)] == ["b"]
        store.mark_pushed([])

    def test_a_version_that_came_during_the_push_still_waits(self, store: ProfileStore) -> None:
        store.commit(batch(0, 1, stored("a", 1)))
        pushing = store.unpushed([0], limit=9)
        store.commit(batch(1, 2, stored("a", 2)))
        store.mark_pushed([(person.user_id, person.version) for person in pushing])
        assert [person.version for person in store.unpushed([0], limit=9)] == [2]

    def test_a_late_mark_does_not_take_a_newer_one_back(self, store: ProfileStore) -> None:
        store.commit(batch(0, 2, stored("a", 2)))
        store.mark_pushed([(UserId("a"), 2)])
        store.mark_pushed([(UserId("a"), 1)])
        assert store.unpushed([0], limit=9) == []

    def test_every_committed_state_waits_for_the_lake_in_order(self, store: ProfileStore) -> None:
        store.commit(batch(0, 2, stored("b", 1), stored("a", 2)))
        store.commit(batch(2, 5, stored("b", 5, FULL)))
        assert store.states_pending(0) == (3, 0, 5)
        rows = store.take_states(0, 5)
        assert [(row.user_id, row.version) for row in rows] == [("b", 1), ("a", 2), ("b", 5)]
        assert orjson.loads(rows[2].row_json) == {**to_row(FULL), "segments": []}

    def test_taken_states_stay_until_they_are_dropped(self, store: ProfileStore) -> None:
        store.commit(batch(0, 2, stored("a", 2)))
        store.commit(batch(2, 5, stored("b", 5)))
        assert len(store.take_states(0, 2)) == len(store.take_states(0, 2)) == 1
        store.drop_states(0, 2)
        assert store.states_pending(0) == (1, 2, 5)
        store.drop_states(0, 5)
        assert store.states_pending(0) == (0, 5, 5)
        assert store.take_states(0, 5) == []

    def test_system_events_wait_in_order_until_they_are_dropped(self, store: ProfileStore) -> None:
        events = [Message(UserId("u1"), f"e{n}", n, b"{}") for n in range(3)]
        store.commit(batch(0, 1, events=events[:2]))
        store.commit(batch(1, 2, events=events[2:]))
        assert [message for _, message in store.pending_events(limit=9)] == events
        (first, _), (second, _) = store.pending_events(limit=2)
        store.drop_events([first, second])
        assert [message for _, message in store.pending_events(limit=9)] == events[2:]

    def test_everything_waits_for_its_push_again_once_pushes_are_forgotten(self, store: ProfileStore) -> None:
        stored = StoredProfile(user_id=UserId("a"), profile=Profile(), version=1, partition=0)
        store.commit(Commit(0, 0, 1, [stored], [], []))
        store.mark_pushed([(UserId("a"), 1)])
        assert store.unpushed([0], limit=9) == []
        store.forget_pushed()
        assert [row.user_id for row in store.unpushed([0], limit=9)] == ["a"]

    def test_skipped_offsets_are_kept_until_the_lake_is_past_them(self, store: ProfileStore) -> None:
        store.commit(Commit(0, 0, 9, [], [], [], skipped=[1, 4, 7]))
        assert store.skipped(0, 1, 7) == {1, 4}
        store.move_events_from(0, 4)
        assert store.events_from(0) == 4
        assert store.skipped(0, 0, 9) == {4, 7}
        assert store.skipped(1, 0, 9) == set()

    def test_messages_are_forgotten_by_the_time_they_were_received(self, store: ProfileStore) -> None:
        store.commit(batch(0, 5))
        assert store.forget_messages(before_ms=3) == 3
        assert store.applied(0, [f"m{n}" for n in range(5)]) == {"m3", "m4"}
        assert store.forget_messages(before_ms=3) == 0

    def test_a_killed_process_leaves_whole_commits_only(self, url: str, store: ProfileStore) -> None:
        for kill_after in (1, 5, 9):
            command = [sys.executable, "-c", COMMIT_FOREVER, url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                told = [int(process.stdout.readline()) for _ in range(kill_after)]
                process.kill()
            committed = store.committed(0)
            assert committed >= told[-1]
            person = store.load([UserId("u1")])[UserId("u1")]
            assert (person.version, person.profile.events) == (committed, committed)
            assert len(store.applied(0, [f"m{n}" for n in range(committed + 9)])) == committed
            assert store.states_pending(0) == (committed, 0, committed)
            assert [message.message_id for _, message in store.pending_events(9_999)] == [
                f"e{n}" for n in range(committed)
            ]

    def test_many_processes_may_create_the_store_at_once(self, url: str) -> None:
        code = "import sys; from storage.profiles import ProfileStore; print(ProfileStore(sys.argv[1]).committed(0))"
        command = [sys.executable, "-c", code, url]
        opening = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)]
        assert [process.communicate(timeout=60) for process in opening] == [(b"0\n", b"")] * 5

    def test_partitions_commit_side_by_side(self, store: ProfileStore) -> None:
        def apply(partition: int) -> None:
            for n in range(20):
                store.commit(batch(n, n + 1, stored(f"u{partition}", n + 1, partition=partition), partition=partition))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(apply, range(4)))
        assert [store.committed(partition) for partition in range(4)] == [20] * 4
        assert [len(store.take_states(partition, 20)) for partition in range(4)] == [20] * 4

    def test_segments_and_the_next_look_are_read_back(self, store: ProfileStore) -> None:
        person = replace(stored("a", 1, FULL), segments=("s", "t"), due_ms=50)
        store.commit(batch(0, 1, person))
        assert store.load([UserId("a")]) == {"a": person}
        assert orjson.loads(store.take_states(0, 1)[0].row_json)["segments"] == ["s", "t"]

    def test_who_is_due_comes_in_the_order_of_time(self, store: ProfileStore) -> None:
        due = [replace(stored(user, n), due_ms=at) for n, (user, at) in enumerate([("a", 30), ("b", 10), ("c", 90)], 1)]
        store.commit(batch(0, 3, *due, stored("d", 3)))
        assert [one.user_id for one in store.due([0, 1], now_ms=30, limit=9)] == ["b", "a"]
        assert (store.next_due_ms([0]), store.next_due_ms([1])) == (10, None)

    def test_a_move_without_messages_is_pushed_again_and_leaves_the_lake_alone(self, store: ProfileStore) -> None:
        store.commit(batch(0, 1, stored("a", 1)))
        store.mark_pushed([(UserId("a"), 1)])
        moved = replace(stored("a", 1), segments=("s",))
        inside = Membership(UserId("a"), "s", 0, True, 1, 77)
        store.commit(replace(batch(1, 1), moved=[moved], memberships=[inside]))
        assert store.unpushed([0], limit=9) == [moved]
        assert (store.committed(0), store.states_pending(0).rows) == (1, 1)
        assert store.memberships_of([UserId("a")]) == {("a", "s"): inside}

    def test_members_are_those_inside_in_pages(self, store: ProfileStore) -> None:
        rows = [Membership(UserId(user), "s", 0, user != "b", 1, 5) for user in "abcd"]
        store.commit(replace(batch(0, 1, stored("a", 1)), memberships=rows))
        assert [row.user_id for row in store.members("s", limit=2)] == ["a", "c"]
        assert [row.user_id for row in store.members("s", after="c")] == ["d"]
        assert (store.member_ids("s"), store.segment_sizes()) == (["a", "c", "d"], {"s": 3})

    def test_a_review_goes_on_where_it_was_unless_definitions_change(self, store: ProfileStore) -> None:
        assert store.review(0, fingerprint="x") == ""
        store.move_review(0, fingerprint="x", reached="m")
        assert (store.review(0, fingerprint="x"), store.review(0, fingerprint="y")) == ("m", "")
        store.move_review(0, fingerprint="x", reached=None)
        assert store.review(0, fingerprint="x") is None

    def test_everybody_is_walked_by_id(self, store: ProfileStore) -> None:
        store.commit(batch(0, 3, stored("b", 1), stored("a", 2), stored("c", 3)))
        store.commit(batch(0, 1, stored("x", 1, partition=1), partition=1))
        assert [one.user_id for one in store.everybody(0, after="a", limit=9)] == ["b", "c"]
