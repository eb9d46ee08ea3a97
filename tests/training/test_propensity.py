"""Scores learn from what was known at the time, are measured on later times, and are published beside a rival."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from bespoke.clock import DAY_MS, to_ms
from bespoke.errors import ConfigError, TrainingError
from bespoke.events import Event
from bespoke.profiles import EMPTY, Profile, fold, to_row
from bespoke.propensity.bundle import read_score
from bespoke.propensity.config import PropensityConfig, Target
from bespoke.propensity.model import Examples, scores
from bespoke.propensity.quality import strongest_of
from bespoke.propensity.signals import signals
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.settings import Settings
from storage.toml import read_toml
from tests.support.messages import DAY_0, event
from training.propensity import (
    PropensityRequest,
    TrainedScores,
    judge,
    load_score,
    score_paths,
    train_propensity,
)
from training.propensity_examples import examples_of, joined, looks_back, parted
from training.search_space import Choices, Range

DAYS = 120
UNTIL = DAY_0 + timedelta(days=DAYS)
CONFIG = PropensityConfig(target=Target.PURCHASE, horizon_days=7)
SETTINGS = "horizon_days = 7\nleaf_rows = 5\nmax_trees = 20\n"


def examples_at(root: Path, at_ms: int, config: PropensityConfig) -> Examples:
    [found] = examples_of(root, [at_ms], config)
    return found


def write_lake(root: Path, events: Iterable[Event], *, partition: int = 0) -> None:
    """Write events, and the state of each person after each of them, as ingestion does."""
    profiles: dict[str, Profile] = {}
    states, ordered = [], sorted(events, key=lambda one: one.received_ms)
    for version, one in enumerate(ordered, start=1):
        profiles[one.person] = fold(profiles.get(one.person, EMPTY), one)
        states.append({"user_id": one.person, "version": version, **to_row(profiles[one.person])})
    Lake(root).write_events(partition, 0, len(ordered), ordered)
    Lake(root).write_states(partition, 0, len(ordered), states)


def shoppers() -> list[Event]:
    """Person n buys every n days for a while; every fifth stops half way."""
    return [
        event(f"u{n}", 24 * day + n % 24, "Order Completed", f"i{day % 3}")
        for n in range(2, 42)
        for day in range(n % 5, DAYS // 2 if n % 5 == 0 else DAYS, n)
    ]


def known_at(at_ms: int) -> dict[str, Profile]:
    known: dict[str, Profile] = {}
    for one in shoppers():
        if one.received_ms < at_ms:
            known[one.person] = fold(known.get(one.person, EMPTY), one)
    return known


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("propensity")
    made = Settings(home=home, config_dir=home / "config")
    (made.config_dir / "scores").mkdir(parents=True)
    for target in Target:
        (made.config_dir / "scores" / f"{target}.toml").write_text(f'target = "{target}"\n{SETTINGS}')
    write_lake(made.lake_dir, shoppers())
    return made


@pytest.fixture(scope="module")
def trained(settings: Settings, ray_session: None) -> TrainedScores:
    request = PropensityRequest(("purchase", "churn"), UNTIL, timedelta(days=90))
    return train_propensity(request, settings, say=lambda _: None)


def test_a_published_score_reads_back_with_its_rival_beside_it(trained: TrainedScores, settings: Settings) -> None:
    read = read_score(BundleStore(settings.bundles_dir).path(*trained.references["purchase"].split("@")))
    assert read.manifest.metrics == trained.metrics["purchase"]
    assert strongest_of(read.manifest.metrics) is not None
    assert read.manifest.gate == trained.verdicts["purchase"] == judge(read.manifest.metrics)
    assert read.manifest.measured is not None and read.manifest.measured.until < read.manifest.window.until
    assert "reference.parquet" in read.manifest.files


def test_who_buys_often_is_likelier_to_buy_and_less_likely_to_leave(trained: TrainedScores, settings: Settings) -> None:
    store, known = BundleStore(settings.bundles_dir), known_at(to_ms(UNTIL))
    published = {name: store.path(*reference.split("@")) for name, reference in trained.references.items()}
    models = {name: read_score(folder).model for name, folder in published.items()}
    often, seldom = (scores(models, known[user], to_ms(UNTIL)) for user in ("u2", "u39"))
    assert often["purchase"] > seldom["purchase"] + 0.2
    assert often["churn"] < seldom["churn"] - 0.2


def test_the_same_training_gives_the_same_files(trained: TrainedScores, settings: Settings) -> None:
    request = PropensityRequest(("purchase",), UNTIL, timedelta(days=90))
    again = train_propensity(request, settings, say=lambda _: None)
    store = BundleStore(settings.bundles_dir)
    one, other = (read_score(store.path(*done.references["purchase"].split("@"))).manifest for done in (trained, again))
    assert (one.files, one.fingerprint, one.metrics) == (other.files, other.fingerprint, other.metrics)


def test_examples_see_what_was_known_and_labels_what_came(settings: Settings) -> None:
    at_ms = to_ms(DAY_0 + timedelta(days=60))
    seen = examples_at(settings.lake_dir, at_ms, CONFIG)
    known = known_at(at_ms)
    bought = {one.person for one in shoppers() if at_ms <= one.at_ms < at_ms + 7 * DAY_MS}
    expected = sorted((*signals(profile, at_ms), float(user in bought)) for user, profile in known.items())
    got = sorted((*row, float(label)) for row, label in zip(seen.signal_NS, seen.label_N, strict=True))
    np.testing.assert_array_equal(got, expected)


def test_a_walk_over_many_looks_sees_what_each_would_see_alone(settings: Settings) -> None:
    looks = [to_ms(DAY_0 + timedelta(days=days)) for days in (20, 27, 90, 113)]
    brief = CONFIG.model_copy(update={"active_days": 10})
    for look, one in zip(looks, examples_of(settings.lake_dir, looks, brief), strict=True):
        alone = examples_at(settings.lake_dir, look, brief)
        rows, expected = (
            sorted((*signal_S, label) for signal_S, label in zip(found.signal_NS, found.label_N, strict=True))
            for found in (one, alone)
        )
        np.testing.assert_array_equal(rows, expected)


def test_nothing_received_past_a_look_back_changes_its_signals(tmp_path: Path) -> None:
    at_ms = to_ms(DAY_0 + timedelta(days=60))
    write_lake(tmp_path / "whole", shoppers())
    write_lake(tmp_path / "past", [one for one in shoppers() if one.received_ms < at_ms])
    whole, past = (examples_at(tmp_path / name, at_ms, CONFIG) for name in ("whole", "past"))
    np.testing.assert_array_equal(np.sort(whole.signal_NS, axis=0), np.sort(past.signal_NS, axis=0))
    assert whole.label_N.any() and not past.label_N.any()


def test_what_the_system_did_is_no_sign_of_life(tmp_path: Path) -> None:
    served = event("u1", 24 * 3, "Recommendation Viewed", "a")
    system = Event(**{**{name: getattr(served, name) for name in served.__slots__}, "name": "Recommendation Served"})
    write_lake(tmp_path, [event("u1", 1, "Order Completed", "a"), system])
    churn = PropensityConfig(target=Target.CHURN, horizon_days=7)
    assert examples_at(tmp_path, to_ms(DAY_0) + DAY_MS, churn).label_N.tolist() == [True]


def test_who_has_been_silent_for_too_long_is_left_out(settings: Settings) -> None:
    brief = CONFIG.model_copy(update={"active_days": 10})
    everybody, active = (examples_at(settings.lake_dir, to_ms(UNTIL), config) for config in (CONFIG, brief))
    assert 0 < len(active) < len(everybody)
    assert active.signal_NS[:, 0].max() <= 10


@pytest.mark.parametrize("horizon_days", [1, 7, 30])
@pytest.mark.parametrize("tested", [False, True])
def test_every_outcome_is_known_before_the_next_part_begins(horizon_days: int, tested: bool) -> None:
    config = PropensityConfig(target=Target.CHURN, horizon_days=horizon_days)
    until_ms = to_ms(UNTIL)
    looks = looks_back(since_ms=0, until_ms=until_ms, config=config)[-60:]
    parts = parted(looks, config, tested=tested)
    ordered = [part for part in (parts.train, parts.validation, parts.test) if part]
    ends = [part[-1] + horizon_days * DAY_MS for part in ordered]
    assert all(end <= later[0] for end, later in zip(ends, ordered[1:], strict=False))
    assert ends[-1] == until_ms and len(ordered) == 2 + tested


def test_a_window_that_is_too_short_says_how_long_it_must_be(settings: Settings, ray_session: None) -> None:
    request = PropensityRequest(("purchase",), UNTIL, timedelta(days=20))
    with pytest.raises(TrainingError, match="window of 42 days or more"):
        train_propensity(request, settings, say=lambda _: None)
    needed = looks_back(since_ms=to_ms(UNTIL) - 42 * DAY_MS, until_ms=to_ms(UNTIL), config=CONFIG)
    assert parted(needed, CONFIG, tested=True).train


def test_times_at_which_nobody_was_known_are_told(settings: Settings, ray_session: None) -> None:
    request = PropensityRequest(("purchase",), DAY_0 - timedelta(days=30), timedelta(days=90))
    with pytest.raises(TrainingError, match=r"nobody was known between .* import history as a replay"):
        train_propensity(request, settings, say=lambda _: None)


def test_one_outcome_alone_is_told_with_what_to_change(tmp_path: Path, ray_session: None) -> None:
    made = Settings(home=tmp_path, config_dir=Path("config"))
    write_lake(made.lake_dir, [event(f"u{n}", 24 * day, "Order Completed", "a") for n in range(9) for day in range(60)])
    with pytest.raises(TrainingError, match=r"churn within 30 days: 0 of .* change horizon_days or active_days"):
        train_propensity(
            PropensityRequest(("churn_30d",), DAY_0 + timedelta(days=200), timedelta(days=200)),
            made,
            say=lambda _: None,
        )


@pytest.mark.parametrize(("name", "said"), [("als", "a kind of model is called 'als'"), ("luck", "there are: .*churn")])
def test_names_that_are_taken_or_unknown_are_told(settings: Settings, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train_propensity(PropensityRequest((name,), UNTIL, timedelta(days=90)), settings, say=lambda _: None)


def test_a_score_that_loses_to_one_signal_does_not_pass() -> None:
    assert not judge({"auc": 0.7, "single_auc:recency_days": 0.7}).passed
    assert judge({"auc": 0.71, "single_auc:recency_days": 0.7}).passed


def test_no_examples_are_told() -> None:
    nobody = Examples(np.zeros((0, 1)), np.zeros(0, bool), 0, 0)
    with pytest.raises(TrainingError, match="nobody was known"):
        joined({0: nobody}, [0])


@pytest.mark.parametrize("path", score_paths(Path("config")), ids=lambda path: path.stem)
def test_a_shipped_score_lists_every_setting_at_its_default(path: Path) -> None:
    raw, config = read_toml(path), load_score(path)
    assert list(raw) == list(PropensityConfig.model_fields)
    assert config == PropensityConfig(target=config.target, horizon_days=config.horizon_days)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("horizon_days = 7", "target: Field required"),
        ('target = "luck"\nhorizon_days = 7', "'purchase' or 'churn', got 'luck'"),
        ('target = "churn"\nhorizon_days = 0', "horizon_days: Input should be greater"),
        ('target = "churn"\nhorizon_days = 7\ntrees = 3', "trees: Extra inputs"),
    ],
)
def test_a_wrong_score_file_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=f"bad.toml: .*{said}"):
        load_score(tmp_path / "bad.toml")


def test_the_search_stays_within_the_bounds() -> None:
    space = TypeAdapter(dict[str, Choices | Range]).validate_python(
        read_toml(Path("config/scores/propensity-search.toml"))
    )
    made: Callable[..., PropensityConfig] = PropensityConfig
    for name, tried in space.items():
        for value in tried.ends():
            assert getattr(made(target="churn", horizon_days=7, **{name: value}), name) == value
