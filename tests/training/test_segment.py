"""Popularity of one segment: learned from its members' lines alone, under a name and a pointer of its own."""

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bespoke.errors import ConfigError, NotFound, TrainingError
from bespoke.events import UserId
from bespoke.models.bundle import read_bundle
from runtime.train import TrainingDone, train_with_report
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.profiles import Commit, Membership, ProfileStore
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.compare import compare
from training.registry import manifest, pointers, published, resolve
from training.train import TrainRequest, check

UNTIL = DAY_0 + timedelta(days=30)
SEGMENTS = """
[vip]
meaning = "Good customers"
all = [{ feature = "revenue", above = 500 }]

[empty]
meaning = "Nobody"
all = [{ feature = "revenue", above = 1000000 }]

[idle]
meaning = "People who do nothing"
all = [{ feature = "revenue", below = 1 }]
"""


def request(segment: str, *kinds: str, **other: Any) -> TrainRequest:
    return TrainRequest(kinds or ("popularity",), UNTIL, timedelta(days=30), segment=segment, **other)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two people in vip take wine; one who has left it, and many others, take bread."""
    home = tmp_path_factory.mktemp("segment")
    made = Settings(home=home, config_dir=home / "config")
    made.config_dir.mkdir()
    (made.config_dir / "segments.toml").write_text(SEGMENTS)
    wine = [event(user, n, "Order Completed", "wine") for user in ("ann", "bob") for n in (1, 9)]
    bread = [event(user, n, "Order Completed", "bread") for user in ("left", "c", "d", "e", "f") for n in (2, 8)]
    cake = [event("ann", 5, "Order Completed", "cake")]
    events = sorted([*wine, *bread, *cake], key=lambda one: one.at_ms)
    Lake(made.lake_dir).write_events(0, 0, len(events), events)
    inside = {"ann": True, "bob": True, "left": False}
    rows = [Membership(UserId(user), "vip", 0, where, 1, 5) for user, where in inside.items()]
    rows.append(Membership(UserId("nobody-heard-of"), "idle", 0, True, 1, 5))
    with closing(ProfileStore(made.profiles_url)) as profiles:
        profiles.commit(Commit(0, 0, 1, [], [], [], memberships=rows))
    return made


def trained(settings: Settings, wanted: TrainRequest, **other: Any) -> TrainingDone:
    return train_with_report(wanted, settings, **{"promote": None, "report": True, "quiet": True, **other})


@pytest.fixture(scope="module")
def vip(settings: Settings, ray_session: None) -> TrainingDone:
    return trained(settings, request("vip"))


def test_only_what_members_do_now_is_counted(vip: TrainingDone, settings: Settings) -> None:
    bundle = read_bundle(BundleStore(settings.bundles_dir).path(*vip.references["popularity"].split("@")))
    assert bundle.popular == ("wine", "cake")


def test_it_has_a_name_and_a_pointer_of_its_own(vip: TrainingDone, settings: Settings) -> None:
    reference = vip.references["popularity"]
    assert reference.startswith("popularity-vip@")
    assert pointers(settings) == {"popular-vip": reference} and vip.promoted == "popular-vip"
    assert resolve(settings, "popular-vip") == resolve(settings, "popularity-vip") == reference
    with pytest.raises(NotFound):
        resolve(settings, "popularity")


def test_the_manifest_tells_the_segment_and_that_nothing_was_measured(vip: TrainingDone, settings: Settings) -> None:
    about = manifest(settings, "popularity-vip")
    assert (about.kind, about.segment, about.metrics) == ("popularity", "vip", {})
    assert about.gate is not None and about.gate.state == "forced" and "not measured" in about.gate.reasons[0]
    assert vip.exit_status == 0 and vip.as_json()["outcomes"]["popularity"]["state"] == "forced"


def test_lists_and_comparisons_take_it_like_any_version(vip: TrainingDone, settings: Settings) -> None:
    assert [(row["kind"], row["pointers"]) for row in published(settings)] == [("popularity", "popular-vip")]
    done = compare("popular-vip", "popularity-vip", settings, until=UNTIL + timedelta(days=7), say=lambda _: None)
    assert done.references == (vip.references["popularity"],) * 2


def test_another_pointer_can_be_named(vip: TrainingDone, settings: Settings) -> None:
    again = trained(settings, request("vip"), promote="for-vips")
    assert again.promoted == "for-vips" and pointers(settings)["popular-vip"] == vip.references["popularity"]


@pytest.mark.parametrize(
    ("segment", "said"), [("empty", "nobody is in segment 'empty'"), ("idle", "the 1 members of segment 'idle' did")]
)
def test_a_segment_that_tells_nothing_publishes_nothing(
    settings: Settings, ray_session: None, segment: str, said: str
) -> None:
    with pytest.raises(TrainingError, match=said):
        trained(settings, request(segment))
    assert not BundleStore(settings.bundles_dir).versions(f"popularity-{segment}")


def test_a_segment_or_a_kind_that_does_not_fit_is_refused_before_anything_runs(settings: Settings) -> None:
    with pytest.raises(NotFound, match="no segment 'vips'; there are: empty, idle, vip"):
        check(request("vips"), settings)
    with pytest.raises(ConfigError, match="--segment: got als, popularity, expected popularity"):
        check(request("vip", "als", "popularity"), settings)


def test_the_settings_of_popularity_hold_for_segments(settings: Settings, ray_session: None, tmp_path: Path) -> None:
    path = tmp_path / "popularity.toml"
    path.write_text("half_life_days = 2.0\n")
    done = trained(settings, replace(request("vip"), config_path=path), promote="short")
    assert manifest(settings, done.references["popularity"]).config["half_life_days"] == 2.0
