"""The bundle store in folders keeps the contract, and a killed publisher leaves nothing that counts."""

import subprocess
import sys
from pathlib import Path

import pytest

from bespoke.errors import Unavailable
from storage.bundles import BundleStore
from tests.contracts.bundles import AT, BundleStoreContract, writes

PUBLISH_AND_HANG = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from storage.bundles import BundleStore
def write(folder):
    (folder / "manifest.json").write_text("half")
    print("writing", flush=True)
    time.sleep(600)
BundleStore(Path(sys.argv[1])).publish("als", write, at=datetime(2026, 11, 23, 6, 15, tzinfo=UTC))
"""


class TestFolderBundleStore(BundleStoreContract):
    """Bundles in folders."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> BundleStore:
        return BundleStore(tmp_path / "bundles")


def test_a_killed_publisher_leaves_no_version_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    store = BundleStore(tmp_path)
    command = [sys.executable, "-c", PUBLISH_AND_HANG, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.kill()
    assert (store.versions("als"), store.names()) == ([], [])
    version = store.publish("als", writes("whole"), at=AT)
    assert [path.read_text() for path in tmp_path.rglob("manifest.json")] == ["whole"]
    assert store.versions("als") == [version]


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file/als"):
        BundleStore(tmp_path / "file").publish("als", writes(""), at=AT)
