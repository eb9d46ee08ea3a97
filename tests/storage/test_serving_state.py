"""The serving state in SQLite keeps the contract."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.serving_state import Held, ServingState
from tests.contracts.serving_state import ServingStateContract


class TestSqliteServingState(ServingStateContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'serving.db'}"


def test_no_writer_holds_up_who_reads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "serving.db"
    with ServingState(f"sqlite:///{path}") as state, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert state.read_at_once(("u1",), shown=True) == Held()


def test_a_closed_store_is_not_read_at_once(tmp_path: Path) -> None:
    state = ServingState(f"sqlite:///{tmp_path}/serving.db")
    state.close()
    assert state.read_at_once(("u1",)) is None


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "serving.db").write_text("no database, but long enough to be looked at as one" * 10)
    with pytest.raises(Unavailable, match=r"serving\.db"):
        ServingState(f"sqlite:///{tmp_path}/serving.db")
