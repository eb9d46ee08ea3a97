"""The Feast repository: `feast apply` accepts it as it stands, and it says of states what the library says."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.features import FEATURES
from bespoke.items import ITEM_COLUMNS, ITEM_FEATURES
from bespoke.models.registry import MODELS
from bespoke.profiles import STATE_COLUMNS, Recent
from runtime.features import PAGE, features_page
from storage.features import FEATURE_REPO, historical_features
from storage.features.encoding import COLUMNS
from storage.features.items import ITEM_VIEW_COLUMNS
from storage.features.repository import columns_of_view
from storage.lake_tables import STATES
from storage.settings import Settings

KINDS = {*MODELS, "propensity"}


def feast_apply(folder: Path) -> str:
    """Run Feast's own command in ``folder`` and return what it said."""
    command = [str(Path(sys.executable).with_name("feast")), "apply"]
    unset = {name: value for name, value in os.environ.items() if not name.startswith("BESPOKE_")}
    done = subprocess.run(command, cwd=folder, env=unset, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a fresh installation whose definitions were applied by hand."""
    root = tmp_path_factory.mktemp("fresh")
    shutil.copytree(FEATURE_REPO, root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "var").mkdir()
    assert "Created feature view user_state" in feast_apply(root / "feature_repo")
    return root / "var"


@pytest.fixture(scope="module")
def store(home: Path) -> Any:
    from feast import FeatureStore

    return FeatureStore(repo_path=str(home.parent / "feature_repo"))


def test_feast_apply_on_a_fresh_installation_writes_only_into_its_home(home: Path) -> None:
    assert {path.name for path in (home / "feast").iterdir()} == {"registry.db", "online.db"}
    kept = {path.name for path in FEATURE_REPO.iterdir()} - {"__pycache__"}
    assert {path.name for path in (home.parent / "feature_repo").iterdir()} == kept


def test_declaration_view_lake_online_columns_and_page_say_the_same(store: Any) -> None:
    from feast.types import from_feast_to_pyarrow_type

    view = store.get_feature_view("user_state")
    declared = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.features}
    assert list(declared) == list(COLUMNS) == [*STATE_COLUMNS, "version", "segments"]
    assert declared == {name: STATES.field(name).type for name in COLUMNS}
    assert set(STATES.names) == {*COLUMNS, "user_id", "event_timestamp", "created_timestamp"}
    assert PAGE.read_text() == features_page(), "run `bespoke features docs`"


def test_the_page_names_every_feature_once_and_every_column() -> None:
    page = features_page()
    for one in FEATURES:
        assert page.count(f"| `{one.name}` | {one.type.value} | {one.meaning} | {one.unit} |") == 1
    assert all(f"| `{name}` | {kind} |" in page for name, kind in COLUMNS.items())


def test_view_online_columns_and_page_say_the_same_of_items(store: Any) -> None:
    view, page = store.get_feature_view("item_state"), features_page()
    assert [field.name for field in view.features] == list(ITEM_VIEW_COLUMNS) == [*ITEM_COLUMNS, "version"]
    assert view.ttl == timedelta(days=60)
    assert all(f"| `{one.name}` | {one.meaning} | {one.unit} |" in page for one in ITEM_FEATURES)


def test_every_kind_of_model_has_a_service_and_so_have_profiles(store: Any) -> None:
    assert {service.name for service in store.list_feature_services()} == KINDS | {"profile", "items"}


def test_recommenders_read_lines_only_and_scores_the_whole_state(store: Any) -> None:
    read = {one.name: set(columns_of_view(one)) for one in store.list_feature_services()}
    lines = {"recent_ms", "recent_items", "recent_interactions", "recent_quantities"}
    for kind in MODELS:
        assert read[kind] == lines | {"received_ms", "version", "segments"}
    assert read["propensity"] == read["profile"] == set(COLUMNS)


def test_what_a_recommender_reads_makes_the_lines_that_models_look_at() -> None:
    assert Recent._fields[:4] == ("at_ms", "item_id", "interaction", "quantity")


def test_a_state_lives_for_two_years(store: Any) -> None:
    assert store.get_feature_view("user_state").ttl == timedelta(days=730)


def test_the_library_reads_what_the_command_applied(home: Path) -> None:
    people = pa.table({"user_id": ["u"], "event_timestamp": pa.array([0], pa.timestamp("ms", "UTC"))})
    found = historical_features(Settings(home=home), people, service="profile")
    assert found.column_names == ["user_id", "event_timestamp", *COLUMNS]


def test_items_are_read_as_they_were_described_then(home: Path, store: Any) -> None:
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 3)]
    items = pa.table(
        {
            "item_id": ["milk", "milk"],
            "event_timestamp": pa.array(times, pa.timestamp("ms", "UTC")),
            "name": ["Milk 1l", "Milk 1 l"],
            "category": [["DAIRY", "MILK"], ["DAIRY"]],
            "brand": pa.array([None, "Own"], pa.string()),
            "price": [1.0, 1.2],
            "available": [True, False],
        }
    )
    (home / "lake" / "items").mkdir(parents=True)
    pq.write_table(items, home / "lake" / "items" / "items.parquet")
    asked = pd.DataFrame({"item_id": ["milk"], "event_timestamp": [datetime(2026, 1, 2, tzinfo=UTC)]})
    features = [f"item_metadata:{name}" for name in ("name", "category", "brand", "price", "available")]
    (row,) = store.get_historical_features(entity_df=asked, features=features).to_arrow().to_pylist()
    assert [row[name.split(":")[1]] for name in features] == ["Milk 1l", ["DAIRY", "MILK"], None, 1.0, True]
