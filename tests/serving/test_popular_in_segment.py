"""Lists of segments are loaded where a pipeline asks for them, answer members, and are made again with a decision."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from bespoke.models.bundle import read_bundle
from bespoke.recommend import Request
from bespoke.recommend.settings import parse_pipeline
from serving.follower import SnapshotFollower
from serving.pipelines import Recipes
from serving.replay import kit_of
from serving.snapshot import Wanted, context_of
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.live_catalog import Overlay
from storage.settings import Settings

Publish = Callable[[str, dict[str, float]], str]
ASKS = '[default]\nsources = [{kind = "popular_in_segment"}]\n'


@pytest.fixture
def control(settings: Settings) -> Iterator[ControlStore]:
    with ControlStore(settings.control_url) as store:
        yield store


@pytest.fixture
def versions(control: ControlStore, publish: Publish, now: datetime) -> dict[str, str]:
    """A champion, and what the segment vip takes."""
    made = {"champion": publish("als", {"a": 2, "b": 1}), "popular-vip": publish("popularity-vip", {"v": 2, "w": 1})}
    for pointer, version in made.items():
        control.set_pointer(pointer, version, by="test", reason="test", at=now)
    return made


@pytest.fixture
def follower(settings: Settings, control: ControlStore, versions: dict[str, str]) -> SnapshotFollower:
    folder = settings.home / "config"
    folder.mkdir()
    (folder / "pipelines.toml").write_text(ASKS)
    return SnapshotFollower(control, BundleStore(settings.bundles_dir), config_dir=folder)


def answered(kit: Any, *segments: str) -> list[tuple[str, str]]:
    decision = kit.engine("champion").recommend(Request(None, 0, num_results=2, segments=frozenset(segments)))
    return [(item.item_id, item.source) for item in decision.items]


def test_members_are_answered_from_the_list_of_their_segment(follower: SnapshotFollower) -> None:
    kit = follower.snapshot.kit
    assert answered(kit, "vip") == [("v", "popular_in_segment"), ("w", "popular_in_segment")]
    assert [item for item, _ in answered(kit)] == ["a", "b"]


def test_lists_of_segments_are_loaded_only_where_a_pipeline_asks(
    settings: Settings, follower: SnapshotFollower, versions: dict[str, str]
) -> None:
    assert follower.snapshot.active == versions
    (settings.home / "config" / "pipelines.toml").write_text("")
    follower.poll()
    assert follower.snapshot.active == {"champion": versions["champion"]}
    assert [item for item, _ in answered(follower.snapshot.kit, "vip")] == ["a", "b"]


def test_a_process_of_isolated_variants_loads_them_too() -> None:
    asks = parse_pipeline("default", {"sources": [{"kind": "popular_in_segment"}]})
    wanted = Wanted({"popular-vip": "p@1"}, recipes=Recipes({"default": asks}), isolated=True)
    assert wanted.versions["popular-vip"] == "p@1"
    assert "popular-vip" not in replace(wanted, recipes=Recipes()).versions


def test_a_moved_list_is_followed(
    follower: SnapshotFollower, control: ControlStore, publish: Publish, now: datetime
) -> None:
    version = publish("popularity-vip", {"n": 1, "v": 9})
    control.set_pointer("popular-vip", version, by="test", reason="test", at=now)
    follower.poll()
    assert [item for item, _ in answered(follower.snapshot.kit, "vip")] == ["v", "n"]


def test_a_kept_context_makes_the_same_list_again(settings: Settings, follower: SnapshotFollower) -> None:
    snapshot, store = follower.snapshot, BundleStore(settings.bundles_dir)
    body = context_of(snapshot.kit, snapshot.active)
    again = kit_of(body, overlay=Overlay(), load=lambda version: read_bundle(store.path(*version.split("@"))))
    assert answered(again, "vip") == answered(snapshot.kit, "vip")
