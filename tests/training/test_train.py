"""What is published was trained up to the cut, was measured on days it had not seen, and can be read back."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from bespoke.catalog import Item
from bespoke.clock import to_ms
from bespoke.errors import ConfigError, NotFound, TrainingError
from bespoke.events import Event, ItemId
from bespoke.models.bundle import read_bundle
from bespoke.models.history import History
from bespoke.models.index import top_k
from bespoke.models.registry import model_of_kind
from bespoke.profiles import Recent
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.lake_tables import INTERACTIONS
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.compare import compare
from training.dataset import COLUMNS
from training.evaluate import evaluate_kinds
from training.fit import FitRequest, fit_remotely
from training.registry import manifest, promote, published, resolve, rollback
from training.report import write_report
from training.train import Trained, TrainRequest, train_and_publish

UNTIL = DAY_0 + timedelta(days=30)
KINDS = ("als", "blend", "buy_again", "popularity")


def request(*kinds: str, **other: Any) -> TrainRequest:
    return TrainRequest(kinds, **{"until": UNTIL, "window": timedelta(days=30), "force": True, **other})


def tastes() -> list[Event]:
    """Two kinds of people, each buying its own kind of items only: a checkerboard."""
    orders = [
        event(f"{kind}{person}", 24 * day + person, "Order Completed", f"{kind}-{(person * 5 + day) % 9}")
        for kind in ("tea", "nail")
        for person in range(12)
        for day in range(1, 29, 2)
    ]
    return sorted(orders, key=lambda one: one.at_ms)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    made = Settings(home=tmp_path_factory.mktemp("train"))
    events = tastes()
    Lake(made.lake_dir).write_events(0, 0, len(events), events)
    return made


@pytest.fixture(scope="module")
def trained(settings: Settings, ray_session: None) -> Trained:
    return train_and_publish(request(*KINDS), settings, say=lambda _: None)


def test_every_kind_is_published_with_its_metrics(trained: Trained, settings: Settings) -> None:
    assert set(trained.references) == set(trained.metrics) == set(KINDS)
    assert {row["kind"] for row in published(settings)} == set(KINDS)
    assert manifest(settings, "als").metrics["ndcg@20"] == trained.metrics["als"]["ndcg@20"]


def test_a_published_model_keeps_the_tastes_apart(trained: Trained, settings: Settings) -> None:
    model = read_bundle(BundleStore(settings.bundles_dir).path(*trained.references["als"].split("@"))).model
    newcomer = History(None, (Recent(to_ms(UNTIL), ItemId("tea-1"), "purchase", 1.0),), to_ms(UNTIL))
    best = [model.vocabulary.ids[row] for row in top_k(model.scores(newcomer), k=5)]
    assert {item.split("-")[0] for item in best} == {"tea"}


def test_the_baselines_are_always_measured_beside(trained: Trained, settings: Settings) -> None:
    alone = train_and_publish(request("als"), settings, say=lambda _: None)
    assert set(alone.metrics) == {"als", "buy_again", "popularity"}
    assert list(alone.references) == ["als"]
    assert alone.metrics["als"] == pytest.approx(trained.metrics["als"])


def test_nothing_past_the_cut_changes_a_model(trained: Trained, settings: Settings) -> None:
    early = DAY_0 + timedelta(days=20)
    before = train_and_publish(request("als", until=early), settings, say=lambda _: None)
    late = [event("tea1", 24 * 40 + n, "Order Completed", "nail-1") for n in range(5)]
    Lake(settings.lake_dir).write_events(1, 0, 5, late)
    after = train_and_publish(request("als", until=early), settings, say=lambda _: None)
    assert before.metrics == after.metrics
    one, other = (manifest(settings, done.references["als"]) for done in (before, after))
    assert one.fingerprint == other.fingerprint
    assert one.files["model.safetensors"] == other.files["model.safetensors"]


def test_too_few_days_are_trained_but_not_measured(settings: Settings, ray_session: None) -> None:
    said: list[str] = []
    few = request("popularity", until=DAY_0 + timedelta(days=3))
    assert train_and_publish(few, settings, say=said.append).metrics == {}
    assert any(line.startswith("not measured: there is nothing to learn from before") for line in said)


def test_a_fit_that_sees_nothing_is_not_measured_and_stops_no_training(tmp_path: Path, ray_session: None) -> None:
    made = Settings(home=tmp_path)
    said: list[str] = []
    events = [event("u1", hour, "Order Completed", "a") for hour in (0, 24 * 25, 24 * 27)]
    Lake(made.lake_dir).write_events(0, 0, len(events), events)
    wanted = request("popularity", until=DAY_0 + timedelta(days=28), window=timedelta(days=7))
    with pytest.raises(TrainingError, match="--force"):
        train_and_publish(replace(wanted, force=False), made, say=said.append)
    done = train_and_publish(wanted, made, say=said.append)
    assert (list(done.references), done.metrics) == (["popularity"], {})
    assert any(line.startswith("not measured: there are no interactions") for line in said)


def test_what_a_fit_raises_on_purpose_comes_back_as_it_was(ray_session: None) -> None:
    table = pa.table({name: pa.array([], INTERACTIONS.field(name).type) for name in COLUMNS})
    with pytest.raises(TrainingError) as raised:
        fit_remotely(table, FitRequest("popularity", model_of_kind("popularity").Config(), 1, 1))
    assert str(raised.value).startswith("there are no interactions")


def test_an_empty_window_publishes_nothing(settings: Settings, ray_session: None) -> None:
    versions = published(settings)
    with pytest.raises(TrainingError):
        train_and_publish(TrainRequest(("als",), DAY_0, timedelta(days=30)), settings, say=lambda _: None)
    assert published(settings) == versions


def test_unknown_models_and_settings_are_told(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="tarot"):
        train_and_publish(TrainRequest(("tarot",), UNTIL, timedelta(days=30)), settings, say=lambda _: None)
    (tmp_path / "als.toml").write_text("factor = 3\n")
    request = TrainRequest(("als",), UNTIL, timedelta(days=30), config_path=tmp_path / "als.toml")
    with pytest.raises(ConfigError, match=r"als\.toml: factor: Extra inputs"):
        train_and_publish(request, settings, say=lambda _: None)


def test_what_a_baseline_beats_is_kept_as_rejected(tmp_path: Path, ray_session: None) -> None:
    made = regulars(tmp_path)
    done = train_and_publish(request("als", force=False), made, say=lambda _: None)
    about = manifest(made, done.references["als"])
    assert about.gate is not None and not about.gate.passed
    assert about.gate.reasons[0].startswith("not better than buy_again")
    assert about.window.until == about.measured.until == UNTIL - timedelta(days=7)  # type: ignore[union-attr]
    with pytest.raises(TrainingError, match="was rejected"):
        promote(made, done.references["als"], pointer="champion", by="test", reason="hope")
    assert promote(made, done.references["als"], pointer="champion", by="test", reason="so be it", force=True)


def test_a_champion_that_saw_the_test_days_is_met_as_if_it_had_not(tmp_path: Path, ray_session: None) -> None:
    made, said = regulars(tmp_path), list[str]()
    first = train_and_publish(request("buy_again", force=False), made, say=said.append)
    assert first.outcomes["buy_again"].verdict.passed
    promote(made, "buy_again", pointer="champion", by="test", reason="first")
    again = train_and_publish(request("buy_again", "als", force=False), made, say=said.append)
    verdicts = {kind: outcome.verdict for kind, outcome in again.outcomes.items()}
    assert verdicts["buy_again"].passed and not verdicts["als"].passed
    against = {one.against: one for one in verdicts["als"].comparisons}
    assert against["champion"].other_mean == against["buy_again"].other_mean
    assert resolve(made, "champion") == first.references["buy_again"]


def test_a_training_may_begin_from_the_last_version(settings: Settings, ray_session: None) -> None:
    early = train_and_publish(request("als", until=UNTIL - timedelta(days=8)), settings, say=lambda _: None)
    later = train_and_publish(request("als", incremental=True), settings, say=lambda _: None)
    started_from = manifest(settings, later.references["als"]).parent
    assert started_from is not None and started_from >= early.references["als"]
    assert manifest(settings, early.references["als"]).parent is None


def test_one_kind_that_fails_does_not_stop_the_others(tmp_path: Path, ray_session: None) -> None:
    made = regulars(tmp_path)
    (tmp_path / "config" / "models").mkdir(parents=True)
    nothing = "[interaction_weights]\npurchase = 0.0\n"
    (tmp_path / "config" / "models" / "als.toml").write_text(nothing)
    made = made.model_copy(update={"config_dir": tmp_path / "config"})
    done = train_and_publish(request("als", "popularity"), made, say=lambda _: None)
    assert list(done.references) == ["popularity"] and "no interactions" in done.errors["als"]


def test_the_report_shows_names_verdicts_and_what_was_taken(tmp_path: Path, ray_session: None) -> None:
    made = regulars(tmp_path)
    Lake(made.lake_dir).write_items([Item(ItemId(f"own-{n}"), name=f"<b>Tea {n}</b>") for n in range(40)], at_ms=0)
    wanted = request("buy_again", "als", force=False)
    trained = train_and_publish(wanted, made, say=lambda _: None)
    page = write_report(trained, wanted, made.reports_dir, at=UNTIL).read_text()
    assert "&lt;b&gt;Tea 1" in page and "<b>Tea" not in page
    assert "not better than buy_again" in page and "Learning curves" in page
    assert (made.reports_dir / "plotly.min.js").exists()
    assert not any(f">u{n}<" in page or f"u{n} " in page for n in range(40))


def test_a_killed_worker_delays_a_network_and_one_version_is_published(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    (tmp_path / "config" / "models").mkdir(parents=True)
    (tmp_path / "config" / "models" / "two_tower.toml").write_text("factors = 8\nepochs = 2\n")
    made = regulars(tmp_path).model_copy(update={"config_dir": tmp_path / "config"})
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_training_worker, args=(killed,), daemon=True)
    killer.start()
    done = train_and_publish(request("two_tower"), made, say=lambda _: None)
    killer.join(timeout=60)
    assert len(killed) == 1
    assert BundleStore(made.bundles_dir).versions("two_tower") == [done.references["two_tower"].split("@")[1]]
    assert not any((made.cache_dir / "training").iterdir())


def kill_a_training_worker(killed: list[int]) -> None:
    """Wait for a worker of Ray Train to appear, and end it by SIGKILL."""
    while not killed:
        for process in psutil.process_iter(["cmdline"]):
            if "RayTrainWorker" in " ".join(process.info["cmdline"] or ()):
                process.kill()
                killed.append(process.pid)
                return


def test_two_versions_are_compared_on_what_neither_has_seen(tmp_path: Path, ray_session: None) -> None:
    made, earlier = regulars(tmp_path), UNTIL - timedelta(days=7)
    wanted = request("buy_again", "popularity", until=earlier)
    one, other = train_and_publish(wanted, made, say=lambda _: None).references.values()
    found = compare(one, other, made, until=UNTIL, say=lambda _: None)
    assert found.difference is not None and found.difference.low is not None and found.difference.low > 0
    nothing_new = compare(one, other, made, until=earlier, say=lambda _: None)
    assert nothing_new.difference is None and "no baskets" in str(nothing_new.not_measured)


def regulars(home: Path) -> Settings:
    """Forty people who buy an item of their own every other day: nobody's taste says anything of anybody else's."""
    made = Settings(home=home / "home")
    days = range(1, 30, 2)
    events = [event(f"u{n}", 24 * day + n % 20, "Order Completed", f"own-{n}") for day in days for n in range(40)]
    Lake(made.lake_dir).write_events(0, 0, len(events), sorted(events, key=lambda one: one.at_ms))
    return made


def test_evaluation_ranks_the_held_out_days(settings: Settings, ray_session: None) -> None:
    week = timedelta(days=7)
    measured = evaluate_kinds(
        ["als", "popularity"],
        settings,
        until=UNTIL,
        window=timedelta(days=23),
        held_out=week,
        lengths=(5, 9),
        say=lambda _: None,
    )
    assert measured["als"]["recall@9"] > measured["popularity"]["recall@9"]
    assert measured["als"]["recall@9"] >= measured["als"]["recall@5"]
    assert measured["als"]["novelty@9"] > measured["popularity"]["novelty@9"] > 0


def test_pointers_move_and_move_back(trained: Trained, settings: Settings) -> None:
    promote(settings, "als", pointer="champion", by="test", reason="first")
    newest = resolve(settings, "champion")
    promote(settings, trained.references["blend"], pointer="champion", by="test", reason="second")
    assert resolve(settings, "champion") == trained.references["blend"]
    assert rollback(settings, "champion", by="test", reason="worse") == newest
