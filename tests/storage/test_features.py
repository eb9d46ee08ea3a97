"""Features in Feast: what is pushed is what is read, and the past is what had been received by then."""

import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import Unavailable
from bespoke.events import Event, EventType, ItemId, Line, MessageId, UserId
from bespoke.profiles import EMPTY, Profile, Recent, Trait, fold, from_row, to_row
from storage.features import OnlineFeatures, OnlineProfile, apply_feature_repo, historical_features
from storage.lake import Lake
from storage.profiles import StoredProfile
from storage.settings import Settings

DAY_0 = 20_000 * DAY_MS


def settings_at(home: Path, *, redis_url: str | None = None) -> Settings:
    return Settings(home=home, redis_url=redis_url)


def busy(lines: int = 3) -> Profile:
    """A profile with something in every column."""
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


def stored(user: str, profile: Profile, version: int = 1) -> StoredProfile:
    return StoredProfile(UserId(user), profile, version, 0)


class OnlineFeaturesContract:
    """What holds for every online store. Subclasses give a fixture ``online``."""

    def test_a_pushed_profile_is_read_back_whole(self, online: OnlineFeatures) -> None:
        online.push([stored("whole", busy(), version=41)])
        assert online.read([UserId("whole")]) == {"whole": OnlineProfile(busy(), 41)}

    def test_a_profile_without_events_is_read_back(self, online: OnlineFeatures) -> None:
        online.push([stored("empty", EMPTY)])
        assert online.read([UserId("empty")])[UserId("empty")].profile == EMPTY

    def test_the_mark_is_missing_until_it_is_left(self, online: OnlineFeatures) -> None:
        assert not online.marked()
        online.mark()
        assert online.marked()

    def test_feasts_public_call_reads_the_same_row(self, online: OnlineFeatures) -> None:
        online.push([stored("public", busy(), version=41)])
        store, _ = online._connected()
        columns = store.get_feature_service("als")
        found = store.get_online_features(columns, entity_rows=[{"user_id": "public"}]).to_dict()
        assert from_row({name: values[0] for name, values in found.items()}) == busy()
        assert found["version"] == [41]

    def test_people_without_a_state_are_absent(self, online: OnlineFeatures) -> None:
        online.push([stored("known", busy())])
        assert online.read([UserId("nobody"), UserId("known")]).keys() == {"known"}
        assert online.read([]) == {}

    def test_the_last_push_wins_even_at_the_same_receipt_time(self, online: OnlineFeatures) -> None:
        online.push([stored("twice", busy(3), version=1)])
        later = Profile(received_ms=busy(3).received_ms, events=99)
        online.push([stored("twice", later, version=2)])
        assert online.read([UserId("twice")]) == {"twice": OnlineProfile(later, 2)}

    def test_many_people_read_at_once_equal_each_read_alone(self, online: OnlineFeatures) -> None:
        users = [UserId(f"many-{n}") for n in range(20)]
        online.push([stored(user, busy(n), version=n) for n, user in enumerate(users)])
        together = online.read(users)
        assert together == {user: online.read([user])[user] for user in users}
        assert together[users[7]] == OnlineProfile(busy(7), 7)

    @pytest.mark.parametrize("service", ["als", "buy_again", "popularity", "blend"])
    def test_every_kind_of_model_reads_its_service(self, online: OnlineFeatures, service: str) -> None:
        online.push([stored("served", busy(), version=5)])
        assert online.read([UserId("served")], service=service)[UserId("served")].version == 5

    def test_threads_share_one_reader(self, online: OnlineFeatures) -> None:
        rows = [stored(f"thread-{n}", busy(n)) for n in range(8)]
        together = threading.Barrier(8)

        def push_and_read(row: StoredProfile) -> Profile:
            together.wait()
            online.push([row])
            return online.read([row.user_id])[row.user_id].profile

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(push_and_read, rows)) == [row.profile for row in rows]

    def test_an_unknown_service_is_unavailable(self, online: OnlineFeatures) -> None:
        with pytest.raises(Unavailable, match="no_such_service"):
            online.read([UserId("u")], service="no_such_service")

    def test_an_applied_store_is_ready(self, online: OnlineFeatures) -> None:
        assert online.ready()


class TestSqlite(OnlineFeaturesContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> OnlineFeatures:
        settings = settings_at(tmp_path_factory.mktemp("sqlite") / "home")
        apply_feature_repo(settings)
        return OnlineFeatures(settings)


@pytest.mark.skipif(
    shutil.which("redis-server") is None and os.environ.get("CI") != "true", reason="redis-server is not installed"
)
class TestRedis(OnlineFeaturesContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineFeatures]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        folder = tmp_path_factory.mktemp("redis")
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert any("Ready to accept connections" in line for line in server.stdout)
            settings = settings_at(folder / "home", redis_url=f"127.0.0.1:{port}")
            apply_feature_repo(settings)
            yield OnlineFeatures(settings)
            server.terminate()


def test_applying_again_keeps_what_was_pushed(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    OnlineFeatures(settings).push([stored("kept", busy())])
    apply_feature_repo(settings)
    assert OnlineFeatures(settings).read([UserId("kept")])[UserId("kept")].profile == busy()


def test_applying_leaves_no_trace_in_the_process(tmp_path: Path) -> None:
    before = (list(sys.path), dict(os.environ), Path.cwd(), sys.dont_write_bytecode)
    apply_feature_repo(settings_at(tmp_path))
    assert (list(sys.path), dict(os.environ), Path.cwd(), sys.dont_write_bytecode) == before
    assert not {"entities", "sources", "views", "services"} & sys.modules.keys()


def test_slow_parts_are_imported_only_when_used() -> None:
    rooms = "storage.features, storage.reference, monitoring.drift, monitoring.references, monitoring.ui"
    check = f"import sys, {rooms}; print(sys.modules.keys() & {{'feast', 'evidently', 'duckdb', 'torch'}})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_store_that_was_never_applied_is_unavailable_until_it_is(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    online = OnlineFeatures(settings)
    assert not online.ready()
    with pytest.raises(Unavailable, match=r"registry\.db"):
        online.read([UserId("u")])
    apply_feature_repo(settings)
    assert online.ready()


def test_a_damaged_registry_is_unavailable_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    (settings.feast_dir / "registry.db").write_bytes(b"\xff" * 100)
    with pytest.raises(Unavailable):
        OnlineFeatures(settings).read([UserId("u")])


def test_a_redis_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings = settings_at(tmp_path, redis_url=f"127.0.0.1:{closed.getsockname()[1]}")
        apply_feature_repo(settings)
        with pytest.raises(Unavailable):
            OnlineFeatures(settings).push([stored("u", busy())])


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    online = OnlineFeatures(settings)
    online.push([stored("u", busy())])
    writer = sqlite3.connect(settings.feast_dir / "online.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert online.read([UserId("u")])[UserId("u")].profile == busy()
    writer.close()


def purchase(user: str, number: int, *, at_ms: int, received_ms: int) -> Event:
    return Event(
        message_id=MessageId(f"{user}-{number}"),
        type=EventType.TRACK,
        name="Order Completed",
        user_id=user,
        anonymous_id=None,
        at_ms=at_ms,
        received_ms=received_ms,
        lines=(Line(ItemId(f"item-{number % 5}"), 1.0, 2.5, f"category-{number % 3}"),),
    )


def history(rng: random.Random, user: str, *, events: int) -> list[Event]:
    """Events in the order of their receipt, some received in the same millisecond, some long after they happened."""
    received = sorted(DAY_0 + rng.randrange(3 * DAY_MS) // 500 * 500 for _ in range(events))
    received[1] = received[0]
    return [
        purchase(user, n, at_ms=at - rng.choice((0, 0, rng.randrange(DAY_MS))), received_ms=at)
        for n, at in enumerate(received)
    ]


def folded(events: list[Event], *, until_ms: int) -> Profile:
    profile = EMPTY
    for event in events:
        if event.received_ms <= until_ms:
            profile = fold(profile, event)
    return profile


def write_states(lake: Lake, events: list[Event], *, first_offset: int) -> None:
    """Commit each event by itself, as the processor does with a stream that is not in a hurry."""
    profile = EMPTY
    for offset, event in enumerate(events, start=first_offset):
        profile = fold(profile, event)
        row = {"user_id": event.person, "version": offset + 1, **to_row(profile)}
        lake.write_states(0, offset, offset + 1, [row])


def question(users: list[str], at_ms: list[int]) -> pa.Table:
    return pa.table({"user_id": users, "event_timestamp": pa.array(at_ms, pa.timestamp("ms", "UTC"))})


def test_the_past_is_what_had_been_received_by_then(tmp_path: Path) -> None:
    rng = random.Random(5)
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    events = {f"u{n}": history(rng, f"u{n}", events=12) for n in range(6)}
    for n, of_user in enumerate(events.values()):
        write_states(Lake(settings.lake_dir), of_user, first_offset=100 * n)
    users = [rng.choice([*events, "nobody"]) for _ in range(200)]
    times = [DAY_0 + rng.randrange(-DAY_MS // 2, 4 * DAY_MS) // 500 * 500 for _ in users]

    rows = historical_features(settings, question(users, times), service="als").to_pylist()

    assert [row["user_id"] for row in rows] == users
    assert [from_row(row) for row in rows] == [
        folded(events.get(user, []), until_ms=at_ms) for user, at_ms in zip(users, times, strict=True)
    ]


def test_files_that_were_merged_but_not_yet_removed_change_nothing(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    lake = Lake(settings.lake_dir)
    events = [purchase("u", n, at_ms=DAY_0 + n, received_ms=DAY_0 + n) for n in range(4)]
    write_states(lake, events, first_offset=0)
    parts = {path: path.read_bytes() for path in lake.files("states")}
    for day in lake.days("states"):
        lake.compact("states", day, committed={0: 4})
    for path, content in parts.items():
        path.write_bytes(content)
    found = historical_features(settings, question(["u", "u"], [DAY_0 + 1, DAY_0 + 9]), service="als")
    assert found["events"].to_pylist() == [2, 4]


def test_the_past_of_an_empty_lake_is_empty(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    found = historical_features(settings, question(["u"], [DAY_0]), service="als")
    assert [from_row(row) for row in found.to_pylist()] == [EMPTY]
