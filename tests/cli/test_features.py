"""Commands about features: what there is, and an online store made anew from the lake."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from bespoke.clock import SystemClock, to_ms
from bespoke.errors import BespokeError
from bespoke.events import UserId
from bespoke.features import FEATURES
from bespoke.profiles import EMPTY
from cli.main import app
from ingestion.lakewriter import LakeWriter
from ingestion.processor import Processor
from runtime.features import rebuild_online
from storage.eventlog import open_event_log
from storage.features import OnlineFeatures, apply_feature_repo
from storage.lake import Lake
from storage.profiles import ProfileStore, StoredProfile
from storage.settings import Settings
from tests.support.messages import order

AT_MS = to_ms(datetime(2026, 2, 1, tzinfo=UTC))
USERS = [UserId(f"u{n}") for n in range(12)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, BespokeError):
        return 1, str(result.exception)
    return result.exit_code, result.output


class Installation:
    """Stores with a processor over them."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        apply_feature_repo(self.settings)
        self.log = open_event_log(home / "log.db", partitions=2)
        self.profiles = ProfileStore(self.settings.profiles_url)
        self.online = OnlineFeatures(self.settings)
        writer = LakeWriter(Lake(self.settings.lake_dir), self.log, self.profiles)
        self.processor = Processor(
            self.log, self.profiles, writer, partitions=(0, 1), sink=self.online, clock=SystemClock(), batch=5
        )

    def buy(self, number: int) -> None:
        self.log.append([order(user, number, f"item-{number}") for user in USERS])
        while self.processor.step():
            pass

    def lose_the_online_store(self) -> None:
        self.online.close()
        (self.settings.feast_dir / "online.db").unlink()
        apply_feature_repo(self.settings)

    def seen(self) -> dict[UserId, tuple[int, int]]:
        found = self.online.read(USERS, service="profile", at_ms=AT_MS)
        return {user: (one.version, one.profile.orders) for user, one in found.items()}

    def close(self) -> None:
        self.processor.close()
        self.online.close()
        self.profiles.close()
        self.log.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setenv("BESPOKE_HOME", str(tmp_path / "var"))
    (tmp_path / "var").mkdir()
    made = Installation(tmp_path / "var")
    yield made
    made.close()


def test_every_declared_feature_is_listed() -> None:
    listed = orjson.loads(run("features", "list", "--json")[1])["features"]
    assert [one["name"] for one in listed] == [one.name for one in FEATURES]
    assert all(one["meaning"] and one["unit"] and one["source"] and one["type"] for one in listed)


def test_a_lost_online_store_comes_back_as_it_was_and_a_second_time_nothing_is_written(site: Installation) -> None:
    for number in range(3):
        site.buy(number)
    site.processor.close()  # everything is in the lake
    before = site.seen()
    site.lose_the_online_store()
    assert site.seen() == {}
    done = orjson.loads(run("features", "rebuild", "--json")[1])
    assert (done["people"], done["written"]) == (len(USERS), len(USERS))
    assert done["rows_per_s"] > 0
    assert site.seen() == before
    assert site.online.marked()
    assert orjson.loads(run("features", "rebuild", "--json")[1])["written"] == 0


def test_states_that_are_not_in_the_lake_yet_come_back_too(site: Installation) -> None:
    site.buy(0)
    before = site.seen()
    assert Lake(site.settings.lake_dir).latest_states().num_rows == 0
    site.lose_the_online_store()
    assert rebuild_online(site.settings).written == len(USERS)
    assert site.seen() == before


def test_what_is_newer_online_is_never_replaced(site: Installation) -> None:
    site.buy(0)
    site.processor.close()
    newer = StoredProfile(USERS[0], EMPTY, version=10**6, partition=0, segments=("kept",))
    site.online.push([newer])
    rebuild_online(site.settings)
    found = site.online.read([USERS[0]], service="profile", at_ms=AT_MS)[USERS[0]]
    assert (found.version, found.segments) == (10**6, ("kept",))


def test_a_lake_is_enough_where_the_profile_store_was_lost_too(site: Installation) -> None:
    site.buy(0)
    site.processor.close()
    before = site.seen()
    site.lose_the_online_store()
    site.profiles.close()
    for path in site.settings.home.glob("profiles.db*"):
        path.unlink()
    assert rebuild_online(site.settings).written == len(USERS)
    assert site.seen() == before


def test_a_score_that_does_not_exist_is_told(site: Installation, ray_session: None) -> None:
    code, output = run("features", "importance", "charm", "--json")
    assert code == 1 and "'charm'" in output and "blend" in output
