"""The Feast repository: `feast apply` accepts it as it stands, and it says of states what the library says."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.models.registry import MODELS
from bespoke.profiles import STATE_COLUMNS
from storage.features import FEATURE_REPO, historical_features
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


def test_the_view_of_states_has_the_columns_of_a_profile_and_the_version(store: Any) -> None:
    from feast.types import from_feast_to_pyarrow_type

    view = store.get_feature_view("user_state")
    declared = {field.name: from_feast_to_pyarrow_type(field.dtype) for field in view.features}
    assert declared == {name: STATES.field(name).type for name in [*STATE_COLUMNS, "version"]}


def test_every_kind_of_model_has_a_service_with_the_whole_state(store: Any) -> None:
    services = {service.name: service for service in store.list_feature_services()}
    assert services.keys() == KINDS
    for service in services.values():
        (projection,) = service.feature_view_projections
        assert {feature.name for feature in projection.features} == {*STATE_COLUMNS, "version"}


def test_a_state_never_expires(store: Any) -> None:
    assert not store.get_feature_view("user_state").ttl


def test_the_library_reads_what_the_command_applied(home: Path) -> None:
    people = pa.table({"user_id": ["u"], "event_timestamp": pa.array([0], pa.timestamp("ms", "UTC"))})
    found = historical_features(Settings(home=home), people, service="blend")
    assert found.column_names == ["user_id", "event_timestamp", *STATE_COLUMNS, "version"]


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
