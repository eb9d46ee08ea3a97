"""The control store in SQLite keeps the contract, and keeps no secret."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.control import ControlStore
from tests.contracts.control import AT, ControlStoreContract, point


class TestSqliteControlStore(ControlStoreContract):
    """The embedded store."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'home' / 'control.db'}"


def test_the_file_holds_the_hash_of_a_secret_and_never_the_secret(tmp_path: Path) -> None:
    with ControlStore(f"sqlite:///{tmp_path / 'control.db'}") as control:
        _, secret = control.create_key("shop", ["ingest"], AT)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret[-43:].encode() not in content
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in content


def test_a_lock_held_past_the_timeout_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    with (
        ControlStore(f"sqlite:///{path}", busy_timeout_s=0.02) as control,
        closing(sqlite3.connect(path)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"control\.db: database is locked; another process"):
            point(control, "als@1")
        assert control.pointer("champion") is None
        assert control.audit_trail() == []
