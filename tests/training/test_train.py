"""What is published was trained up to the cut, was measured on days it had not seen, and can be read back."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from bespoke.clock import to_ms
from bespoke.errors import ConfigError, NotFound, TrainingError
from bespoke.events import Event, ItemId
from bespoke.models.base import History
from bespoke.models.bundle import read_bundle
from bespoke.models.index import top_k
from bespoke.models.registry import model_of_kind
from bespoke.profiles import Recent
from storage.bundles import BundleStore
from storage.lake import Lake
from storage.lake_tables import INTERACTIONS
from storage.settings import Settings
from tests.support.messages import DAY_0, event
from training.dataset import COLUMNS
from training.evaluate import evaluate_kinds
from training.fit import FitRequest, fit_remotely
from training.registry import manifest, promote, published, resolve, rollback
from training.train import Trained, TrainRequest, train_and_publish

UNTIL = DAY_0 + timedelta(days=30)
KINDS = ("als", "blend", "buy_again", "popularity")


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
    return train_and_publish(TrainRequest(KINDS, UNTIL, timedelta(days=30)), settings, say=lambda _: None)


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
    alone = train_and_publish(TrainRequest(("als",), UNTIL, timedelta(days=30)), settings, say=lambda _: None)
    assert set(alone.metrics) == {"als", "buy_again", "popularity"}
    assert list(alone.references) == ["als"]
    assert alone.metrics["als"] == pytest.approx(trained.metrics["als"])


def test_nothing_past_the_cut_changes_a_model(trained: Trained, settings: Settings) -> None:
    early = DAY_0 + timedelta(days=20)
    before = train_and_publish(TrainRequest(("als",), early, timedelta(days=30)), settings, say=lambda _: None)
    late = [event("tea1", 24 * 40 + n, "Order Completed", "nail-1") for n in range(5)]
    Lake(settings.lake_dir).write_events(1, 0, 5, late)
    after = train_and_publish(TrainRequest(("als",), early, timedelta(days=30)), settings, say=lambda _: None)
    assert before.metrics == after.metrics
    one, other = (manifest(settings, done.references["als"]) for done in (before, after))
    assert one.fingerprint == other.fingerprint
    assert one.files["model.safetensors"] == other.files["model.safetensors"]


def test_too_few_days_are_trained_but_not_measured(settings: Settings, ray_session: None) -> None:
    said: list[str] = []
    request = TrainRequest(("popularity",), DAY_0 + timedelta(days=3), timedelta(days=30))
    assert train_and_publish(request, settings, say=said.append).metrics == {}
    assert any(line.startswith("not measured: there is nothing to learn from before") for line in said)


def test_a_fit_that_sees_nothing_is_not_measured_and_stops_no_training(tmp_path: Path, ray_session: None) -> None:
    made = Settings(home=tmp_path)
    said: list[str] = []
    events = [event("u1", hour, "Order Completed", "a") for hour in (0, 24 * 25, 24 * 27)]
    Lake(made.lake_dir).write_events(0, 0, len(events), events)
    request = TrainRequest(("popularity",), DAY_0 + timedelta(days=28), timedelta(days=7))
    done = train_and_publish(request, made, say=said.append)
    assert (list(done.references), done.metrics) == (["popularity"], {})
    assert any(line.startswith("popularity: not measured: there are no interactions") for line in said)


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
