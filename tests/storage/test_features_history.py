"""Features of the past: what had been received by then, and nothing that is too old."""

import random
from pathlib import Path

import pyarrow as pa

from bespoke.clock import DAY_MS
from bespoke.events import Event, EventType, ItemId, Line, MessageId
from bespoke.profiles import EMPTY, Profile, fold, from_row, to_row
from storage.features import apply_feature_repo, historical_features
from storage.lake import Lake
from storage.settings import Settings

DAY_0 = 20_000 * DAY_MS
TTL_MS = 730 * DAY_MS


def settings_at(home: Path) -> Settings:
    return Settings(home=home)


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

    rows = historical_features(settings, question(users, times), service="profile").to_pylist()

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
    found = historical_features(settings, question(["u", "u"], [DAY_0 + 1, DAY_0 + 9]), service="profile")
    assert found["events"].to_pylist() == [2, 4]


def test_the_past_of_an_empty_lake_is_empty(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    found = historical_features(settings, question(["u"], [DAY_0]), service="profile")
    assert [from_row(row) for row in found.to_pylist()] == [EMPTY]


def test_what_is_older_than_two_years_is_no_more_known_than_online(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    write_states(Lake(settings.lake_dir), [purchase("u", 0, at_ms=DAY_0, received_ms=DAY_0)], first_offset=0)
    asked = question(["u", "u"], [DAY_0 + TTL_MS, DAY_0 + TTL_MS + 1])
    found = historical_features(settings, asked, service="profile")
    assert found["events"].to_pylist() == [1, None]


def test_a_service_gives_its_columns_only(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    write_states(Lake(settings.lake_dir), [purchase("u", 0, at_ms=DAY_0, received_ms=DAY_0)], first_offset=0)
    found = historical_features(settings, question(["u"], [DAY_0]), service="als")
    assert "recent_items" in found.column_names and "traits_json" not in found.column_names
