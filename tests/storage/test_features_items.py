"""Items online: what is pushed is what is read, by us and by Feast's public call, in every store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import Unavailable
from bespoke.events import ItemId
from bespoke.items import UNKNOWN, ItemState, from_row, to_row
from storage.features import apply_feature_repo
from storage.features.encoding import entity_key, key_prefix
from storage.features.items import ITEM_KEY, ITEM_VIEW, OnlineItem, OnlineItems
from storage.item_states import StoredItem
from storage.settings import Settings
from tests.support.feast import feast_store
from tests.support.servers import fresh_schema, running_redis

DAY_0 = 20_000 * DAY_MS
TTL_MS = 60 * DAY_MS
TEA = ItemState(
    first_ms=DAY_0,
    last_ms=DAY_0 + 5,
    received_ms=DAY_0 + 9,
    sold_ms=DAY_0 + 5,
    totals={"view": 7, "purchase": 1},
    day_counts={(20_000, "view"): 3, (20_000, "purchase"): 1},
    hour_counts={(480_000, "view"): 2},
)

UNSOLD = ItemState(DAY_0, DAY_0, DAY_0)


def stored(item: str, state: ItemState = TEA, version: int = 1) -> StoredItem:
    return StoredItem(ItemId(item), state, version)


def read(online: OnlineItems, *items: str, at_ms: int = DAY_0) -> dict[ItemId, OnlineItem]:
    return online.read([ItemId(item) for item in items], at_ms=at_ms)


class OnlineItemsContract:
    """What holds for every online store. Subclasses give a fixture ``online``."""

    def test_a_pushed_item_is_read_back_whole(self, online: OnlineItems) -> None:
        assert online.push([stored("whole", version=41), stored("unsold", UNSOLD)]) == 2
        found = read(online, "whole", "unsold", "unheard")
        assert found == {"whole": OnlineItem(TEA, 41), "unsold": OnlineItem(UNSOLD, 1)}

    def test_feasts_public_call_reads_the_same_row(self, online: OnlineItems) -> None:
        online.push([stored("public", version=41)])
        with feast_store(online._view._settings) as store:
            service = store.get_feature_service("items")
            found = store.get_online_features(service, entity_rows=[{"item_id": "public"}]).to_dict()
        assert from_row({name: values[0] for name, values in found.items()}) == TEA
        assert found["version"] == [41]

    def test_what_feast_writes_is_read_the_same(self, online: OnlineItems) -> None:
        import pandas as pd

        row = {
            "item_id": "written",
            "version": 9,
            **to_row(TEA),
            "received_at": pd.Timestamp(DAY_0, unit="ms", tz="UTC"),
        }
        with feast_store(online._view._settings) as store:
            store.write_to_online_store(ITEM_VIEW, pd.DataFrame([row]))
        assert read(online, "written") == {"written": OnlineItem(TEA, 9)}

    def test_an_older_reading_never_replaces_a_newer_one(self, online: OnlineItems) -> None:
        online.push([stored("raced", version=7)])
        assert online.push([stored("raced", UNKNOWN, version=6), stored("raced-too", version=6)]) == 1
        assert read(online, "raced") == {"raced": OnlineItem(TEA, 7)}

    def test_an_item_that_was_quiet_for_too_long_is_stale_and_empty(self, online: OnlineItems) -> None:
        online.push([stored("quiet")])
        assert TEA.received_ms is not None
        assert not read(online, "quiet", at_ms=TEA.received_ms + TTL_MS)[ItemId("quiet")].stale
        found = read(online, "quiet", at_ms=TEA.received_ms + TTL_MS + 1)
        assert found == {"quiet": OnlineItem(UNKNOWN, 1, stale=True)}


def applied(home: Path, online_url: str | None) -> OnlineItems:
    settings = Settings(home=home, online_url=online_url)
    apply_feature_repo(settings)
    return OnlineItems(settings)


class TestSqlite(OnlineItemsContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineItems]:
        online = applied(tmp_path_factory.mktemp("sqlite") / "home", None)
        yield online
        online.close()


class TestRedis(OnlineItemsContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineItems]:
        with running_redis() as server:
            online = applied(tmp_path_factory.mktemp("redis") / "home", f"redis://{server.address}")
            yield online
            online.close()


class TestPostgres(OnlineItemsContract):
    @pytest.fixture(scope="class")
    @classmethod
    def online(cls, tmp_path_factory: pytest.TempPathFactory, postgres_server: str) -> Iterator[OnlineItems]:
        with fresh_schema(postgres_server) as url:
            online = applied(tmp_path_factory.mktemp("postgres") / "home", url)
            yield online
            online.close()


@pytest.mark.parametrize("item", ["tea", "", "a/b ü", "x" * 300])
def test_keys_are_those_that_feast_makes(item: str) -> None:
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["item_id"], entity_values=[Value(string_val=item)])
    assert entity_key(item, prefix=key_prefix(ITEM_KEY)) == serialize_entity_key(
        key, entity_key_serialization_version=3
    )


def test_a_store_that_was_never_applied_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"definitions\.json"):
        read(OnlineItems(Settings(home=tmp_path)), "tea")
