"""A score ranks by what foretells the outcome, means what it says, and is the same read back."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import BundleError, TrainingError
from bespoke.features import FEATURE_NAMES
from bespoke.models.bundle import Window, read_bundle
from bespoke.profiles import EMPTY, Profile, fold
from bespoke.propensity.bundle import read_score, write_score
from bespoke.propensity.calibration import Calibration
from bespoke.propensity.config import PropensityConfig, Target
from bespoke.propensity.model import Examples, Propensity, scores
from bespoke.propensity.quality import (
    auc,
    average_precision,
    calibration_error,
    log_loss,
    strongest,
    strongest_of,
)
from bespoke.propensity.signals import RHYTHM, SIGNAL_NAMES, rhythm, signals
from tests.support.messages import DAY_0, event

CONFIG = PropensityConfig(target=Target.PURCHASE, horizon_days=7, max_trees=60, leaf_rows=20)
COLUMN = SIGNAL_NAMES.index("gap_ratio")
AT_MS = round(DAY_0.timestamp() * 1000) + 40 * DAY_MS
DETAILS: dict[str, Any] = {
    "name": "purchase_7d",
    "version": "20260131T000000Z-1",
    "window": Window(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 1, 31, tzinfo=UTC)),
    "fingerprint": "f00d",
    "metrics": {"auc": 0.9},
    "seed": 0,
    "feature_service": None,
    "parent": None,
    "git_revision": None,
    "created_at": datetime(2026, 1, 31, tzinfo=UTC),
}


def examples(at_ms: int, *, seed: int, rows: int = 3000) -> Examples:
    """Return people of whom one signal alone foretells the outcome: it happens with probability 1 - signal."""
    rng = np.random.default_rng(seed)
    signal_NS = rng.uniform(size=(rows, len(SIGNAL_NAMES)))
    signal_NS[:, 0] = np.nan
    return Examples(signal_NS, rng.uniform(size=rows) > signal_NS[:, COLUMN], at_ms, at_ms)


TRAIN, VALIDATION, TEST = (examples(AT_MS + 7 * n * DAY_MS, seed=n) for n in range(3))


@pytest.fixture(scope="module")
def model() -> Propensity:
    return Propensity.fit(TRAIN, VALIDATION, config=CONFIG)


@pytest.fixture
def folder(model: Propensity, tmp_path: Path) -> Path:
    write_score(tmp_path, model, **DETAILS)
    return tmp_path


def buyer(*days: int) -> Profile:
    """Return somebody who bought an item at noon of each of these days."""
    profile = EMPTY
    for day in days:
        profile = fold(profile, event("u", 24 * day + 12, "Order Completed", "a"))
    return profile


def rhythm_of(profile: Profile) -> dict[str, float]:
    return dict(zip((signal.name for signal in RHYTHM), rhythm(profile, AT_MS).tolist(), strict=True))


def test_scores_rank_by_what_foretells_and_mean_what_they_say(model: Propensity) -> None:
    score_N = model.score(TEST.signal_NS)
    assert score_N.dtype == np.float64 and score_N.min() > 0 and score_N.max() < 1
    assert auc(score_N, TEST.label_N) > 0.8
    assert np.abs(score_N - (1 - TEST.signal_NS[:, COLUMN])).mean() < 0.08
    assert calibration_error(score_N, TEST.label_N) < 0.05


def test_the_strongest_single_signal_is_measured_beside(model: Propensity) -> None:
    measured = model.measure(TEST)
    single = strongest_of(measured)
    assert single is not None and single.name == "gap_ratio"
    assert measured["auc_gain"] == measured["auc"] - single.auc
    assert strongest_of({"auc": 0.5}) is None


def test_equal_seeds_and_examples_give_equal_models(model: Propensity) -> None:
    assert Propensity.fit(TRAIN, VALIDATION, config=CONFIG, threads=2).calibration == model.calibration
    assert Propensity.fit(TRAIN, VALIDATION, config=CONFIG, seed=1).trees != model.trees


def test_one_person_scores_as_in_a_batch(model: Propensity) -> None:
    people = [EMPTY, buyer(1, 8, 15), buyer(39)]
    batch_B = model.score(np.array([signals(person, AT_MS) for person in people]))
    assert [model.score_profile(person, AT_MS) for person in people] == batch_B.tolist()
    assert scores({"a": model, "b": model}, people[1], AT_MS) == {"a": batch_B[1], "b": batch_B[1]}
    assert scores({}, EMPTY, AT_MS) == {}


def test_an_event_changes_the_score_at_once(model: Propensity) -> None:
    before, after = buyer(1, 8, 15), buyer(1, 8, 15, 39)
    assert model.score_profile(after, AT_MS) > model.score_profile(before, AT_MS)


def test_signals_are_found_by_name_and_missing_ones_are_refused(model: Propensity) -> None:
    turned = model.score(TEST.signal_NS[:, ::-1], names=SIGNAL_NAMES[::-1])
    np.testing.assert_array_equal(turned, model.score(TEST.signal_NS))
    with pytest.raises(BundleError, match="gap_ratio"):
        model.score(TEST.signal_NS[:, : len(FEATURE_NAMES)], names=FEATURE_NAMES)
    with pytest.raises(BundleError, match="train it again"):
        model.score(TEST.signal_NS[:, 1:])


def test_labels_may_not_look_into_the_time_of_validation() -> None:
    with pytest.raises(TrainingError, match="leave out the latest training examples"):
        Propensity.fit(TRAIN, examples(AT_MS + 7 * DAY_MS - 1, seed=1), config=CONFIG)


@pytest.mark.parametrize("happened", [True, False])
def test_one_outcome_alone_teaches_nothing(happened: bool) -> None:
    same = Examples(TRAIN.signal_NS, np.full(len(TRAIN), happened), TRAIN.first_ms, TRAIN.last_ms)
    with pytest.raises(TrainingError, match="training examples, expected 20 or more of either outcome"):
        Propensity.fit(same, VALIDATION, config=CONFIG)


def test_infinite_signals_are_refused() -> None:
    signal_NS = TRAIN.signal_NS.copy()
    signal_NS[5, 5] = np.inf
    with pytest.raises(TrainingError, match="infinite"):
        Propensity.fit(Examples(signal_NS, TRAIN.label_N, AT_MS, AT_MS), VALIDATION, config=CONFIG)


def test_calibration_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    logit_N = rng.normal(size=20_000)
    label_N = rng.uniform(size=20_000) < 1 / (1 + np.exp(-logit_N))
    line = Calibration.fit(4 * logit_N - 2, label_N)
    assert line.slope == pytest.approx(0.25, abs=0.02) and line.intercept == pytest.approx(0.5, abs=0.05)
    assert Calibration.from_array(line.array()) == line


def test_calibration_keeps_a_perfect_ranking_finite_and_never_turns_one_around() -> None:
    logit_N = np.linspace(-1, 1, 100)
    assert np.isfinite(Calibration.fit(logit_N, logit_N > 0)(logit_N)).all()
    assert Calibration.fit(logit_N, logit_N < 0).slope > 0


def test_metrics_of_a_case_worked_out_by_hand() -> None:
    score_N, label_N = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, True, False, True])
    assert auc(score_N, label_N) == 0.75
    assert average_precision(score_N, label_N) == pytest.approx((1 + 2 / 3) / 2)
    assert log_loss(np.array([0.5, 0.5]), np.array([True, False])) == pytest.approx(np.log(2))
    assert calibration_error(score_N, label_N, bins=2) == pytest.approx(0.35)
    assert np.isnan(auc(score_N, np.ones(4, bool)))


def test_scores_that_say_nothing_rank_like_chance_whatever_the_order() -> None:
    label_N = np.arange(10) < 4
    assert auc(np.ones(10), label_N) == 0.5
    assert average_precision(np.ones(10), label_N) == average_precision(np.ones(10), label_N[::-1]) == 0.4


def test_a_signal_may_speak_by_its_low_values_or_by_being_absent() -> None:
    label_N = np.arange(100) < 50
    low, absent = np.where(label_N, 1.0, 2.0), np.where(label_N, 3.0, np.nan)
    absent[0] = np.nan
    single = strongest(np.column_stack([absent, low]), label_N, names=("absent", "low"))
    assert (single.name, single.auc) == ("low", 1.0)
    assert strongest(absent[:, None], label_N, names=("absent",)).auc == 0.99


def test_the_rhythm_of_a_weekly_buyer() -> None:
    weekly = rhythm_of(buyer(4, 11, 18, 25, 32))
    assert (weekly["gap_mean_days"], weekly["gap_deviation_days"], weekly["gap_longest_days"]) == (7, 0, 7)
    assert weekly["gap_ratio"] == 8 / 7
    assert (weekly["purchase_days_14d"], weekly["purchase_days_30d"], weekly["purchase_days_120d"]) == (1, 4, 5)
    assert weekly["gap_survived"] == 0.5 / 5
    assert weekly["lines_per_day_60d"] == 1


def test_pauses_that_outlasted_the_present_one_say_when_it_ends() -> None:
    waiting = rhythm_of(buyer(0, 8, 20, 37))
    assert waiting["gap_survived"] == (3 + 0.5) / 4
    assert waiting["gap_ends_7d"] == (1 + 0.5) / 4
    assert waiting["gap_ends_30d"] == (3 + 0.5) / 4


def test_nobody_has_no_rhythm_and_every_name_is_there_once() -> None:
    nothing = rhythm_of(EMPTY)
    assert nothing["purchase_days_60d"] == 0 and np.isnan(nothing["gap_ratio"])
    assert len(set(SIGNAL_NAMES)) == len(SIGNAL_NAMES) == len(signals(EMPTY, AT_MS))


def test_days_after_the_time_asked_about_do_not_count() -> None:
    assert rhythm_of(buyer(4, 11, 50)) == rhythm_of(buyer(4, 11))


def test_what_was_written_is_read(folder: Path, model: Propensity) -> None:
    read = read_score(folder)
    assert read.model == model and read.model.config == CONFIG
    assert read.manifest.kind == "propensity" and "lightgbm" in read.manifest.libraries
    assert set(read.manifest.files) == {"trees.txt", "model.safetensors"}
    np.testing.assert_array_equal(read.model.score(TEST.signal_NS), model.score(TEST.signal_NS))


def test_the_reference_is_part_of_the_bundle(model: Propensity, tmp_path: Path) -> None:
    write_score(tmp_path, model, **DETAILS, reference=pa.table({"recency_days": [1.0]}))
    assert "reference.parquet" in read_score(tmp_path).manifest.files


def test_a_score_is_no_recommender(folder: Path) -> None:
    with pytest.raises(BundleError, match="it is of kind 'propensity', expected popularity or"):
        read_bundle(folder)


def rehash(folder: Path, name: str) -> None:
    """Make the manifest agree with an altered file, so that only the content can give it away."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["trees.txt", "model.safetensors"])
def test_an_altered_or_missing_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        read_score(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"missing files: .*{name}"):
        read_score(folder)


@pytest.mark.parametrize("named", [False, True])
def test_a_pickle_is_refused_even_if_the_manifest_names_it(folder: Path, named: bool) -> None:
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    if named:
        rehash(folder, "model.pkl")
    with pytest.raises(BundleError, match=r"model\.pkl"):
        read_score(folder)


@pytest.mark.parametrize(
    "alter",
    [
        lambda trees: trees.replace("gap_ratio", "gap_rxtio"),
        lambda trees: "tree\n",
        lambda trees: "",
    ],
    ids=["other signals", "no trees", "empty"],
)
def test_trees_that_do_not_fit_are_refused(folder: Path, alter: Callable[[str], str]) -> None:
    path = folder / "trees.txt"
    path.write_text(alter(path.read_text()))
    rehash(folder, "trees.txt")
    with pytest.raises(BundleError):
        read_score(folder)


def test_a_calibration_that_falls_is_refused() -> None:
    for line in ([-1.0, 0.0], [0.0, 0.0], [1.0]):
        with pytest.raises(BundleError, match="slope above 0"):
            Calibration.from_array(np.array(line, dtype=np.float32))
