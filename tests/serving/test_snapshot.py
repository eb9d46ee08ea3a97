"""The snapshot follows the control store, and a bad bundle leaves what serves alone."""

import time
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest

from bespoke.experiments import Experiment, Variant
from serving.follower import SnapshotFollower
from serving.snapshot import Choice
from storage.bundles import BundleStore
from storage.control import ControlStore
from storage.settings import Settings

Publish = Callable[[str, dict[str, float]], str]
HALVES = Experiment(
    name="test",
    salt="s",
    variants=(
        Variant(name="old", share=0.5, model="champion"),
        Variant(name="new", share=0.5, model="challenger"),
    ),
)


@pytest.fixture
def follower(settings: Settings) -> SnapshotFollower:
    """Return a follower that looks only when it is told to."""
    return followed(settings)


def followed(settings: Settings, *, poll_s: float = 0.5) -> SnapshotFollower:
    """Return a follower of an installation whose folder of settings is empty."""
    control, bundles = ControlStore(settings.control_url), BundleStore(settings.bundles_dir)
    return SnapshotFollower(control, bundles, config_dir=settings.home / "config", poll_s=poll_s)


def chosen(follower: SnapshotFollower, person: str = "u") -> Choice:
    """Return what answers somebody."""
    snapshot = follower.snapshot
    return snapshot.choose(snapshot.traffic.place((person, None), at_ms=0))


def point(settings: Settings, name: str, version: str, at: datetime) -> None:
    """Move a pointer."""
    with ControlStore(settings.control_url) as control:
        control.set_pointer(name, version, by="test", reason="test", at=at)


def split(settings: Settings, at: datetime) -> None:
    """Put an experiment in force."""
    with ControlStore(settings.control_url) as control:
        control.set_experiment(HALVES.name, HALVES.model_dump(mode="json"), by="test", at=at)


def test_snapshot_follows_the_pointer(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    assert chosen(follower).model.bundle is None
    for _ in range(2):
        version = publish("popularity", {"a": 2, "b": 1})
        point(settings, "champion", version, now)
        before = follower.snapshot
        follower.poll()
        assert follower.snapshot.active == {"champion": version}
        assert follower.snapshot is not before
        assert follower.lacks == ()


def test_snapshot_stays_the_same_object_while_nothing_changes(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("popularity", {"a": 1}), now)
    follower.poll()
    before = follower.snapshot
    follower.poll()
    assert follower.snapshot is before


def test_unchanged_versions_are_not_loaded_again(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("one", {"a": 1}), now)
    follower.poll()
    kept = follower.snapshot.models["champion"].bundle
    point(settings, "challenger", publish("two", {"a": 1}), now)
    follower.poll()
    assert follower.snapshot.models["champion"].bundle is kept
    assert set(follower.snapshot.active) == {"champion", "challenger"}


@pytest.mark.parametrize("damage", ["altered", "missing", "empty"])
def test_bad_bundle_leaves_the_old_one_serving(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime, damage: str
) -> None:
    good = publish("popularity", {"a": 2, "b": 1})
    point(settings, "champion", good, now)
    follower.poll()
    bad = publish("popularity", {"a": 1, "c": 1})
    folder = BundleStore(settings.bundles_dir).path(*bad.split("@"))
    if damage == "altered":
        (folder / "popular.json").write_text('["x"]')
    if damage == "missing":
        (folder / "manifest.json").unlink()
    if damage == "empty":
        bad = f"popularity@{now:%Y%m%dT%H%M%SZ}-99"
    point(settings, "champion", bad, now)
    follower.poll()
    served = follower.snapshot.models["champion"]
    assert (served.wanted, served.active) == (bad, good)
    assert served.error
    assert any("champion" in lack for lack in follower.lacks)


def test_repaired_bundle_is_taken_in_time(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    version = publish("popularity", {"a": 2, "b": 1})
    manifest = BundleStore(settings.bundles_dir).path(*version.split("@")) / "manifest.json"
    manifest.rename(manifest.with_suffix(".away"))
    point(settings, "champion", version, now)
    follower.poll()
    assert follower.snapshot.active == {"champion": None}
    manifest.with_suffix(".away").rename(manifest)
    for _ in range(10):
        follower.poll()
    assert follower.snapshot.active == {"champion": version}


def test_split_is_sticky_and_near_its_shares(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("one", {"a": 1}), now)
    point(settings, "challenger", publish("two", {"a": 1}), now)
    split(settings, now)
    follower.poll()
    people = [f"u{n}" for n in range(2_000)]
    first = [chosen(follower, person).placement for person in people]
    assert [chosen(follower, person).placement for person in people] == first
    assert 0.45 < np.mean([choice.variant == "new" for choice in first]) < 0.55
    both = [chosen(follower, person) for person in people[:50]]
    names = {(c.placement.variant, c.model.bundle.manifest.name) for c in both if c.model.bundle}
    assert names == {("old", "one"), ("new", "two")}


def test_experiment_waits_until_each_of_its_pointers_names_a_version(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("one", {"a": 1}), now)
    split(settings, now)
    follower.poll()
    choices = [chosen(follower, f"u{n}") for n in range(50)]
    assert {(c.placement.experiment, c.placement.variant, c.degraded) for c in choices} == {(None, None, None)}
    assert follower.lacks == ("experiment test waits: nothing was promoted to challenger",)
    point(settings, "challenger", publish("two", {"a": 1}), now)
    follower.poll()
    assert chosen(follower).placement.experiment == "test"
    assert not follower.lacks


def test_an_experiment_that_waits_leaves_the_traffic_to_the_next_one(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("one", {"a": 1}), now)
    split(settings, now)
    later = Experiment(name="ztest", salt="z", variants=(Variant(name="all", share=1, model="champion"),))
    with ControlStore(settings.control_url) as control:
        control.set_experiment(later.name, later.model_dump(mode="json"), by="test", at=now)
    follower.poll()
    assert chosen(follower).placement.experiment == "ztest"


def test_variant_whose_version_cannot_be_loaded_gets_the_champion_and_says_so(
    settings: Settings, follower: SnapshotFollower, publish: Publish, now: datetime
) -> None:
    point(settings, "champion", publish("one", {"a": 1}), now)
    point(settings, "challenger", "two@nowhere", now)
    split(settings, now)
    follower.poll()
    assert follower.lacks == ("model challenger: not loadable",)
    choices = [chosen(follower, f"u{n}") for n in range(50)]
    assert {(c.placement.variant, c.degraded) for c in choices} == {("old", None), ("new", "variant_model_missing")}
    assert {c.model.name for c in choices} == {"champion"}


def test_follower_keeps_its_snapshot_while_the_control_store_is_away(
    settings: Settings, publish: Publish, now: datetime
) -> None:
    version = publish("one", {"a": 1})
    point(settings, "champion", version, now)
    control = ControlStore(settings.control_url)
    follower = SnapshotFollower(control, BundleStore(settings.bundles_dir), config_dir=settings.config_dir)
    settings.home.joinpath("control.db").rename(settings.home / "away.db")
    settings.home.joinpath("control.db").write_text("no database")
    control.close()
    follower.poll()
    assert follower.snapshot.active == {"champion": version}
    assert follower.lacks[0].startswith("control store")


def test_running_follower_takes_a_new_pointer(settings: Settings, publish: Publish, now: datetime) -> None:
    follower = followed(settings, poll_s=0.01)
    follower.start()
    version = publish("one", {"a": 1})
    point(settings, "champion", version, now)
    deadline = time.monotonic() + 30
    while follower.snapshot.active != {"champion": version} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert follower.alive
    assert follower.snapshot.active == {"champion": version}
    follower.close()
    assert not follower.alive
