"""Features online: what is pushed is what is read, in every store, and what is too old is said to be."""

import random
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import Unavailable
from bespoke.events import ItemId, UserId
from bespoke.profiles import EMPTY, Profile, Recent, Trait, from_row, to_row
from storage.features import OnlineFeatures, OnlineProfile, StateOfPerson, apply_feature_repo
from storage.features.online import encoded
from storage.features.sqlite import SqliteRows
from storage.profiles import StoredProfile
from storage.settings import Settings
from tests.support.feast import feast_store
from tests.support.servers import fresh_schema, own_postgres, postgres_url, running_redis

DAY_0 = 20_000 * DAY_MS
TTL_MS = 730 * DAY_MS


def busy(lines: int = 3) -> Profile:
    """A profile with something in most columns."""
    return Profile(
        first_ms=DAY_0,
        last_ms=DAY_0 + lines,
        received_ms=DAY_0 + lines + 7,
        events=lines,
        orders=2,
        revenue_micros=1_500_000,
        recent=tuple(Recent(DAY_0 + n, ItemId(f"item-{n}"), "purchase", 0.5 * n) for n in range(lines)),
        day_counts={(20_000, "purchase"): lines, (20_001, "view"): 1},
        category_counts={(2_857, "FRZN ICE"): 4},
        traits={"city": Trait(DAY_0, '"Zürich"')},
    )


def stored(user: str, profile: Profile, version: int = 1, segments: tuple[str, ...] = ()) -> StoredProfile:
    return StoredProfile(UserId(user), profile, version, 0, segments)


def read(
    online: OnlineFeatures, *users: str, at_ms: int = DAY_0, service: str = "profile"
) -> dict[UserId, OnlineProfile]:
    return online.read([UserId(user) for user in users], service=service, at_ms=at_ms)


class OnlineFeaturesContract:
    """What holds for every online store. Subclasses give a fixture ``online``."""

    def test_a_pushed_profile_is_read_back_whole(self, online: OnlineFeatures) -> None:
        online.push([stored("whole", busy(), version=41, segments=("new", "vip"))])
        assert read(online, "whole") == {"whole": OnlineProfile(busy(), 41, ("new", "vip"))}

    def test_a_profile_without_events_is_read_back(self, online: OnlineFeatures) -> None:
        online.push([stored("empty", EMPTY)])
        assert read(online, "empty")[UserId("empty")].profile == EMPTY

    def test_a_service_reads_its_columns_and_who_somebody_is(self, online: OnlineFeatures) -> None:
        online.push([stored("lines", busy(), version=5, segments=("vip",))])
        found = read(online, "lines", service="als")[UserId("lines")]
        assert found == OnlineProfile(Profile(received_ms=busy().received_ms, recent=busy().recent), 5, ("vip",))

    def test_the_mark_is_missing_until_it_is_left(self, online: OnlineFeatures) -> None:
        assert not online.marked()
        online.mark()
        assert online.marked()

    @pytest.mark.parametrize("lines", [0, 3, 500])
    def test_feasts_public_call_reads_the_same_row(self, online: OnlineFeatures, lines: int) -> None:
        online.push([stored("public", busy(lines), version=41, segments=("vip",))])
        with feast_store(online._view._settings) as store:
            service = store.get_feature_service("profile")
            found = store.get_online_features(service, entity_rows=[{"user_id": "public"}]).to_dict()
        assert from_row({name: values[0] for name, values in found.items()}) == busy(lines)
        assert (found["version"], found["segments"]) == ([41], [["vip"]])

    def test_what_feast_writes_is_read_the_same(self, online: OnlineFeatures) -> None:
        import pandas as pd

        row = {"user_id": "written", "version": 9, "segments": ["vip"], **to_row(busy())}
        frame = pd.DataFrame([{**row, "event_timestamp": pd.Timestamp(DAY_0, unit="ms", tz="UTC")}])
        frame["created_timestamp"] = frame["event_timestamp"]
        with feast_store(online._view._settings) as store:
            store.write_to_online_store("user_state", frame)
        assert read(online, "written") == {"written": OnlineProfile(busy(), 9, ("vip",))}

    def test_people_without_a_state_are_absent(self, online: OnlineFeatures) -> None:
        online.push([stored("known", busy())])
        assert read(online, "nobody", "known").keys() == {"known"}
        assert read(online) == {}

    def test_the_last_push_wins_even_at_the_same_receipt_time(self, online: OnlineFeatures) -> None:
        online.push([stored("twice", busy(3), version=1)])
        later = Profile(received_ms=busy(3).received_ms, events=99)
        online.push([stored("twice", busy(1), version=2), stored("twice", later, version=3)])
        assert read(online, "twice") == {"twice": OnlineProfile(later, 3)}

    def test_only_what_is_newer_is_written_where_that_is_asked_for(self, online: OnlineFeatures) -> None:
        online.push([stored("newer", busy(), version=7)])
        offered = [("newer", 6), ("newest", 6)]
        states = [StateOfPerson(UserId(user), version, to_row(EMPTY)) for user, version in offered]
        assert online.push_newer(states) == 1
        assert online.push_newer(states) == 0
        assert {user: one.version for user, one in read(online, "newer", "newest").items()} == {"newer": 7, "newest": 6}

    def test_no_writer_comes_between_the_look_and_the_write(self, online: OnlineFeatures) -> None:
        users = [f"raced-{n}" for n in range(40)]
        together = threading.Barrier(2)

        def push() -> None:
            together.wait()
            for version in range(2, 60, 2):
                online.push([stored(user, EMPTY, version) for user in users])

        def push_newer() -> None:
            together.wait()
            for version in range(1, 60, 2):
                with suppress(Unavailable):
                    online.push_newer([StateOfPerson(UserId(user), version, to_row(EMPTY)) for user in users])
                for one in read(online, *users).values():
                    assert one.version >= version

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(push), pool.submit(push_newer)]:
                done.result()

    def test_a_state_that_is_too_old_is_empty_and_stale(self, online: OnlineFeatures) -> None:
        online.push([stored("old", busy(), version=4, segments=("vip",))])
        received_ms = busy().received_ms
        assert received_ms is not None
        assert not read(online, "old", at_ms=received_ms + TTL_MS)[UserId("old")].stale
        found = read(online, "old", at_ms=received_ms + TTL_MS + 1, service="als")
        assert found == {"old": OnlineProfile(EMPTY, 4, ("vip",), stale=True)}

    def test_many_people_read_at_once_equal_each_read_alone(self, online: OnlineFeatures) -> None:
        users = [f"many-{n}" for n in range(20)]
        online.push([stored(user, busy(n), version=n) for n, user in enumerate(users, start=1)])
        together = read(online, *users)
        assert together == {user: read(online, user)[UserId(user)] for user in users}
        assert together[UserId(users[7])] == OnlineProfile(busy(8), 8)

    @pytest.mark.parametrize("service", ["als", "buy_again", "popularity", "blend", "propensity"])
    def test_every_kind_of_model_reads_its_service(self, online: OnlineFeatures, service: str) -> None:
        online.push([stored("served", busy(), version=5)])
        found = read(online, "served", service=service)[UserId("served")]
        assert (found.version, found.profile.recent) == (5, busy().recent)

    def test_a_read_at_once_says_the_same_or_nothing(self, online: OnlineFeatures) -> None:
        online.push([stored("prompt", busy(), version=5)])
        whole = read(online, "prompt", "nobody")
        assert set(whole) == {"prompt"}
        found = online.read_at_once([UserId("prompt"), UserId("nobody")], service="profile", at_ms=DAY_0)
        assert found in (whole, None)

    def test_threads_share_one_reader(self, online: OnlineFeatures) -> None:
        rows = [stored(f"thread-{n}", busy(n)) for n in range(8)]
        together = threading.Barrier(8)

        def push_and_read(row: StoredProfile) -> Profile:
            together.wait()
            online.push([row])
            return read(online, row.user_id)[row.user_id].profile

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(push_and_read, rows)) == [row.profile for row in rows]

    def test_an_unknown_service_is_unavailable(self, online: OnlineFeatures) -> None:
        with pytest.raises(Unavailable, match="no_such_service"):
            read(online, "u", service="no_such_service")

    def test_an_applied_store_is_ready(self, online: OnlineFeatures) -> None:
        assert online.ready()


def applied(home: Path, online_url: str | None) -> OnlineFeatures:
    settings = Settings(home=home, online_url=online_url)
    apply_feature_repo(settings)
    return OnlineFeatures(settings)


class TestSqlite(OnlineFeaturesContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> OnlineFeatures:
        return applied(tmp_path_factory.mktemp("sqlite") / "home", None)

    def test_nothing_is_opened_at_once(self, tmp_path: Path) -> None:
        fresh = applied(tmp_path, None)
        assert fresh.read_at_once([UserId("u")], service="als", at_ms=DAY_0) is None
        fresh.push([stored("u", busy(), version=3)])
        found = fresh.read_at_once([UserId("u")], service="als", at_ms=DAY_0 + TTL_MS + DAY_MS)
        assert found == {UserId("u"): OnlineProfile(EMPTY, 3, stale=True)}
        fresh.close()

    def test_neither_a_writer_nor_a_reader_holds_up_who_reads_at_once(self, online: OnlineFeatures) -> None:
        online.push([stored("u", busy(), version=4)])
        whole, rows = read(online, "u"), online._view.opened().rows
        assert isinstance(rows, SqliteRows)
        with rows._turn, closing(sqlite3.connect(rows._path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert online.read_at_once([UserId("u")], service="profile", at_ms=DAY_0) == whole
        with rows._prompt_turn:
            assert online.read_at_once([UserId("u")], service="profile", at_ms=DAY_0) is None

    def test_a_file_that_cannot_be_read_now_is_left_to_who_can_wait(self, tmp_path: Path) -> None:
        online = applied(tmp_path, None)
        online.push([stored("u", busy())])
        read(online, "u")
        rows = online._view.opened().rows
        assert isinstance(rows, SqliteRows)
        rows._prompt.close()
        rows._prompt = sqlite3.connect(rows._path, timeout=0)
        with closing(sqlite3.connect(rows._path, isolation_level=None)) as other:
            rows._connection.close()
            other.execute("PRAGMA locking_mode=EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            assert online.read_at_once([UserId("u")], service="profile", at_ms=DAY_0) is None
        online.close()


class TestRedis(OnlineFeaturesContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineFeatures]:
        with running_redis() as server:
            online = applied(tmp_path_factory.mktemp("redis") / "home", f"redis://{server.address}")
            yield online
            online.close()


class TestPostgres(OnlineFeaturesContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[OnlineFeatures]:
        with fresh_schema(postgres_server) as url:
            online = applied(tmp_path_factory.mktemp("postgres") / "home", url)
            yield online
            online.close()


def test_redis_that_was_started_again_is_used_again(tmp_path: Path) -> None:
    with running_redis() as server:
        online = applied(tmp_path, f"redis://{server.address}")
        online.push([stored("u", busy())])
        server.stop()
        with pytest.raises(Unavailable):
            online.push([stored("u", busy())])
        assert not online.ready()
        server.start()
        assert not online.marked()  # it has lost what it held, and the missing mark tells so
        online.push([stored("u", busy(), version=2)])
        assert read(online, "u")[UserId("u")].version == 2
        online.close()


def test_postgres_that_was_started_again_is_used_again_and_kept_everything(tmp_path: Path) -> None:
    with own_postgres() as server:
        online = applied(tmp_path, postgres_url(server))
        online.push([stored("u", busy())])
        server.stop()
        with pytest.raises(Unavailable) as raised:
            read(online, "u")
        assert "not-to-be-shown" not in str(raised.value)
        server.start()
        assert read(online, "u")[UserId("u")].profile == busy()
        online.close()


def test_a_push_that_fails_halfway_leaves_postgres_as_it_was(tmp_path: Path, postgres_server: str) -> None:
    with fresh_schema(postgres_server) as url:
        online = applied(tmp_path, url)
        online.push([stored("a", busy(1)), stored("b", busy(1))])
        rows = [encoded(StateOfPerson.of(stored(user, busy(5), version=2))) for user in ("b", "a", "a")]
        with pytest.raises(psycopg.Error):  # one statement may not write a row twice
            online._view.opened().rows.write(rows)
        assert {one.version for one in read(online, "a", "b").values()} == {1}
        online.close()


def test_random_profiles_come_back_as_they_were(tmp_path: Path) -> None:
    rng, online = random.Random(3), applied(tmp_path, None)
    rows = [stored(f"u{n}", busy(rng.randrange(500)), version=rng.randrange(1, 2**40)) for n in range(30)]
    online.push(rows)
    found = read(online, *(row.user_id for row in rows))
    assert found == {row.user_id: OnlineProfile(row.profile, row.version) for row in rows}
