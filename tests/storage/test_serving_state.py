"""The serving state in SQLite keeps the contract."""

from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.serving_state import ServingState
from tests.contracts.serving_state import ServingStateContract


class TestSqliteServingState(ServingStateContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'serving.db'}"


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "serving.db").write_text("no database, but long enough to be looked at as one" * 10)
    with pytest.raises(Unavailable, match=r"serving\.db"):
        ServingState(f"sqlite:///{tmp_path}/serving.db")
