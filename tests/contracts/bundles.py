"""What every bundle store promises; a new engine subclasses :class:`BundleStoreContract` and gives an empty store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from bespoke.errors import BundleError, ConfigError, NotFound
from storage.bundles import BundleStore

AT = datetime(2026, 11, 23, 6, 15, tzinfo=UTC)


def writes(text: str) -> Callable[[Path], None]:
    """Return what fills a bundle with one file and one in a folder."""

    def write(folder: Path) -> None:
        (folder / "manifest.json").write_text(text)
        (folder / "arrays").mkdir()
        (folder / "arrays" / "item.bin").write_bytes(b"\x00" * 100)

    return write


class BundleStoreContract:
    """Subclasses give the fixture ``store``."""

    @pytest.fixture
    def store(self) -> BundleStore:
        """Return an empty store."""
        raise NotImplementedError

    def test_a_published_version_is_found_with_all_its_files(self, store: BundleStore) -> None:
        version = store.publish("als", writes("first"), at=AT)
        folder = store.path("als", version)
        assert (folder / "manifest.json").read_text() == "first"
        assert (folder / "arrays" / "item.bin").read_bytes() == b"\x00" * 100

    def test_a_version_states_the_time_in_utc_and_a_number(self, store: BundleStore) -> None:
        local = AT.astimezone(timezone(timedelta(hours=2)))
        assert store.publish("als", writes(""), at=local) == "20261123T061500Z-1"
        assert store.publish("als", writes(""), at=AT) == "20261123T061500Z-2"
        assert store.publish("als", writes(""), at=AT + timedelta(seconds=1)) == "20261123T061501Z-1"

    def test_versions_come_oldest_first_past_ten_in_a_second(self, store: BundleStore) -> None:
        published = [store.publish("als", writes(""), at=AT) for _ in range(12)]
        assert store.versions("als") == published

    def test_the_folder_to_fill_is_named_by_its_version(self, store: BundleStore) -> None:
        names: list[str] = []

        def write(folder: Path) -> None:
            names.append(folder.name)
            writes("")(folder)

        assert [store.publish("als", write, at=AT)] == names

    def test_a_version_is_invisible_until_it_is_whole(self, store: BundleStore) -> None:
        seen: list[list[str]] = []

        def write(folder: Path) -> None:
            writes("")(folder)
            seen.append(store.versions("als") + store.names())

        store.publish("als", write, at=AT)
        assert seen == [[]]

    def test_a_failed_publication_leaves_nothing_and_blocks_nothing(self, store: BundleStore) -> None:
        def fail(folder: Path) -> None:
            writes("")(folder)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            store.publish("als", fail, at=AT)
        assert (store.versions("als"), store.names()) == ([], [])
        assert store.publish("als", writes(""), at=AT) == "20261123T061500Z-1"

    def test_an_empty_bundle_is_refused(self, store: BundleStore) -> None:
        with pytest.raises(BundleError, match="nothing was written"):
            store.publish("als", lambda folder: None, at=AT)
        assert store.versions("als") == []

    def test_names_are_those_with_a_version(self, store: BundleStore) -> None:
        for name in ("popularity", "als"):
            store.publish(name, writes(""), at=AT)
        assert store.names() == ["als", "popularity"]
        assert store.versions("unknown") == []

    def test_an_unknown_version_is_not_found_and_the_known_are_named(self, store: BundleStore) -> None:
        version = store.publish("als", writes(""), at=AT)
        with pytest.raises(NotFound, match=f"als@v9: no such version; the latest are: {version}"):
            store.path("als", "v9")
        with pytest.raises(NotFound, match="the latest are: none"):
            store.path("two_tower", version)

    @pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "ä", "a" * 101])
    def test_a_name_that_is_no_folder_s_is_refused(self, store: BundleStore, name: str) -> None:
        with pytest.raises(ConfigError, match="bundle name"):
            store.publish(name, writes(""), at=AT)

    def test_publications_at_once_all_get_a_version_of_their_own(self, store: BundleStore) -> None:
        with ThreadPoolExecutor(6) as pool:
            published = list(pool.map(lambda n: store.publish("als", writes(str(n)), at=AT), range(6)))
        assert sorted(published) == sorted(store.versions("als"))
        texts = [(store.path("als", version) / "manifest.json").read_text() for version in published]
        assert texts == list("012345")
