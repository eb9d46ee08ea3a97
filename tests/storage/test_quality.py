"""The quality store in SQLite and PostgreSQL keeps the contract; its file is its owner's alone."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.quality import QualityStore
from tests.contracts.quality import NOW_MS, QualityStoreContract, failed, key
from tests.support.servers import fresh_schema


class TestSqliteQualityStore(QualityStoreContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'quality.db'}"


class TestPostgresQualityStore(QualityStoreContract):
    """The store of several machines."""

    @pytest.fixture
    def url(self, postgres_server: str) -> Iterator[str]:
        with fresh_schema(postgres_server) as url:
            yield url


def test_nobody_else_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "home" / "quality.db"
    with QualityStore(f"sqlite:///{path}") as store:
        store.write({}, [failed(0)], now_ms=NOW_MS)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_lock_held_past_the_timeout_stores_nothing(tmp_path: Path) -> None:
    path = tmp_path / "quality.db"
    with QualityStore(f"sqlite:///{path}", busy_timeout_s=0.02) as store:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match=r"quality\.db: database is locked"):
                store.write({key(): 1}, [failed(0)], now_ms=NOW_MS)
        assert (store.totals(since_ms=0, until_ms=2 * NOW_MS), store.failed(limit=1)) == ({}, [])
