"""The feature repository: applied without a trace, and unavailable rather than broken where it cannot be read."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bespoke.errors import ConfigError, Unavailable
from bespoke.events import UserId
from bespoke.profiles import Profile
from storage.features import OnlineFeatures, apply_feature_repo
from storage.features.address import PostgresAddress, RedisAddress, parse_address
from storage.profiles import StoredProfile
from storage.settings import Settings
from tests.support.servers import free_port

AT_MS = 1_000


def settings_at(home: Path, *, online_url: str | None = None) -> Settings:
    return Settings(home=home, online_url=online_url)


def busy() -> Profile:
    return Profile(received_ms=AT_MS, events=3, orders=2)


def stored(user: str, profile: Profile) -> StoredProfile:
    return StoredProfile(UserId(user), profile, 1, 0)


def test_applying_again_keeps_what_was_pushed(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    OnlineFeatures(settings).push([stored("kept", busy())])
    apply_feature_repo(settings)
    assert (
        OnlineFeatures(settings).read([UserId("kept")], service="profile", at_ms=AT_MS)[UserId("kept")].profile
        == busy()
    )


def test_applying_leaves_no_trace_in_the_process(tmp_path: Path) -> None:
    before = (list(sys.path), dict(os.environ), Path.cwd(), sys.dont_write_bytecode)
    apply_feature_repo(settings_at(tmp_path))
    assert (list(sys.path), dict(os.environ), Path.cwd(), sys.dont_write_bytecode) == before
    assert not {"entities", "sources", "views", "services"} & sys.modules.keys()


def test_slow_parts_are_imported_only_when_used() -> None:
    watching = ("drift", "evidently_report", "references", "readouts", "ui")
    rooms = ", ".join(["storage.features", "storage.reference", *(f"monitoring.{name}" for name in watching)])
    check = f"import sys, {rooms}; print(sys.modules.keys() & {{'feast', 'evidently', 'duckdb', 'torch'}})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_store_that_was_never_applied_is_unavailable_until_it_is(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    online = OnlineFeatures(settings)
    assert not online.ready()
    with pytest.raises(Unavailable, match=r"definitions\.json"):
        online.read([UserId("u")], service="profile", at_ms=AT_MS)
    apply_feature_repo(settings)
    assert online.ready()


def test_who_only_reads_and_pushes_does_without_feast(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    code = f"""
import sys
from pathlib import Path
from bespoke.profiles import Profile
from storage.features import OnlineFeatures
from storage.profiles import StoredProfile
from storage.settings import Settings
online = OnlineFeatures(Settings(home=Path({str(settings.home)!r})))
online.push([StoredProfile("u", Profile(received_ms=1), version=1, partition=0)])
assert online.read(["u"], service="als", at_ms=2)["u"].version == 1
print([name for name in ("feast", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_damaged_definitions_are_unavailable_and_nothing_else(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    (settings.feast_dir / "definitions.json").write_bytes(b"\xff" * 100)
    with pytest.raises(Unavailable):
        OnlineFeatures(settings).read([UserId("u")], service="profile", at_ms=AT_MS)


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1", "postgresql://u:hidden@127.0.0.1"])
def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path, scheme: str) -> None:
    apply_feature_repo(settings_at(tmp_path))  # the registry is there, the server is not
    away = settings_at(tmp_path, online_url=f"{scheme}:{free_port()}")
    with pytest.raises(Unavailable) as raised:
        OnlineFeatures(away).push([stored("u", busy())])
    assert "hidden" not in str(raised.value)


def test_a_postgres_that_does_not_answer_cannot_be_applied_to(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        apply_feature_repo(settings_at(tmp_path, online_url=f"postgresql://u@127.0.0.1:{free_port()}/d"))


def test_an_address_is_read_for_the_client_and_for_feast_alike() -> None:
    address = parse_address("rediss://:1e5%2C,x@cache.example:7000/2")
    assert isinstance(address, RedisAddress)
    assert (address.host, address.port, address.database, address.password) == ("cache.example", 7000, 2, "1e5,,x")

    from feast.infra.online_stores.redis import RedisOnlineStore

    nodes, options = RedisOnlineStore._parse_connection_string(address.feast_string)
    assert nodes == [{"host": "cache.example", "port": "7000"}]
    assert options == {"db": 2, "ssl": True, "password": "1e5,,x"}


def test_a_postgres_address_names_its_schema() -> None:
    address = parse_address("postgresql+psycopg://me:pw@db.example/shop?options=-csearch_path%3Dfeatures")
    assert isinstance(address, PostgresAddress)
    assert (address.schema, address.feast_options["database"], address.feast_options["password"]) == (
        "features",
        "shop",
        "pw",
    )


@pytest.mark.parametrize(
    "url",
    [
        "10.0.0.7:6379",
        "mysql://u:hidden@h/d",
        "redis://:hidden@h:port",
        "redis://:hidden@",
        "postgresql://u:hidden@[h/d",
    ],
)
def test_an_address_that_nobody_can_read_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="online_url") as raised:
        parse_address(url)
    assert "hidden" not in str(raised.value)


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    apply_feature_repo(settings)
    online = OnlineFeatures(settings)
    online.push([stored("u", busy())])
    writer = sqlite3.connect(settings.feast_dir / "online.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert online.read([UserId("u")], service="profile", at_ms=AT_MS)[UserId("u")].profile == busy()
    writer.close()
