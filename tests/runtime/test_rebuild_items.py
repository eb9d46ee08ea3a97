"""A rebuild of the online store brings items back too."""

from pathlib import Path

from bespoke.clock import DAY_MS
from bespoke.events import ItemId
from bespoke.profiles import Profile
from runtime.features import rebuild_online
from storage.features import apply_feature_repo
from storage.features.items import OnlineItems
from storage.profiles import ProfileStore
from storage.settings import Settings
from tests.contracts.item_states import DAY_0, bought
from tests.contracts.profiles import batch, stored

ITEMS = [ItemId(f"item-{n}") for n in range(300)]


def test_a_lost_online_store_gets_every_item_back(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "var")
    apply_feature_repo(settings)
    profiles = ProfileStore(settings.profiles_url)
    profiles.commit(batch(0, 9, stored("u1", 9, Profile(received_ms=DAY_0))))
    profiles.move_events_from(0, 9, 0, bought(*ITEMS, "item-7"))
    assert rebuild_online(settings).items == len(ITEMS)
    online = OnlineItems(settings)
    found = online.read(ITEMS, at_ms=DAY_0 + DAY_MS)
    assert {item: one.state for item, one in found.items()} == {one.item_id: one.state for one in profiles.items(ITEMS)}
    online.close()
    profiles.close()
