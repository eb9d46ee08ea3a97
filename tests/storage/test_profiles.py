"""The profile store in SQLite keeps the contract, and is honest when it cannot write."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.errors import ConfigError, Unavailable
from storage.profile_tables import decode_state, encode_state
from storage.profiles import ProfileStore
from tests.contracts.profiles import FULL, ProfileStoreContract, batch, stored


class TestSqliteProfileStore(ProfileStoreContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'profiles.db'}"


def test_a_state_rests_compressed_and_comes_back_equal() -> None:
    assert decode_state(encode_state(FULL, ("a", "b"))) == (FULL, ("a", "b"))
    assert decode_state(memoryview(encode_state(FULL)).tobytes()) == (FULL, ())


def test_a_lock_held_past_the_timeout_names_the_file_and_stores_nothing(tmp_path: Path) -> None:
    path = tmp_path / "profiles.db"
    store = ProfileStore(f"sqlite:///{path}", busy_timeout_s=0.02)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"profiles\.db: database is locked; another process has held it"):
            store.commit(batch(0, 1, stored("u1", 1)))
    assert store.committed(0) == 0
    store.commit(batch(0, 1, stored("u1", 1)))
    store.close()


def test_reading_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "profiles.db"
    store = ProfileStore(f"sqlite:///{path}", busy_timeout_s=0.02)
    store.commit(batch(0, 1, stored("u1", 1)))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE partitions SET committed = 99")
        assert store.committed(0) == 1
    store.close()


def test_a_file_of_another_kind_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "profiles.db"
    path.write_text("not a database, " * 100)
    with pytest.raises(Unavailable, match=r"profiles\.db: file is not a database"):
        ProfileStore(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "nonsense"])
def test_an_address_that_no_engine_knows_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:///PATH"):
        ProfileStore(url)


def test_commits_are_synced_and_push_marks_are_not(tmp_path: Path) -> None:
    store = ProfileStore(f"sqlite:///{tmp_path / 'profiles.db'}")
    full, normal = 2, 1
    store.commit(batch(0, 1, stored("u1", 1)))
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == full
    store.mark_pushed([(stored("u1", 1).user_id, 1)])
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == normal
    store.close()
