"""Reference tables hold each person's features, as the library derives them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bespoke.clock import DAY_MS
from bespoke.errors import BundleError, NotFound
from bespoke.events import ItemId
from bespoke.features import FEATURE_NAMES, features
from bespoke.profiles import EMPTY, Profile, Recent, to_row
from monitoring.references import current_features, frozen_reference
from storage.lake import Lake
from storage.lake_tables import states_table
from storage.reference import REFERENCE_SCHEMA, feature_table

DAY_0 = 20_000 * DAY_MS


def shopper(orders: int, *, received_ms: int = DAY_0) -> Profile:
    return Profile(
        first_ms=DAY_0,
        last_ms=DAY_0,
        received_ms=received_ms,
        events=orders,
        orders=orders,
        revenue_micros=2_000_000 * orders,
        recent=(Recent(DAY_0, ItemId("milk"), "purchase", 1.0),) * orders,
        day_counts={(20_000, "purchase"): orders},
    )


def row(user: str, profile: Profile, version: int) -> dict[str, object]:
    return {"user_id": user, "version": version, **to_row(profile)}


def test_every_row_equals_the_features_of_the_profile() -> None:
    profiles = [shopper(n) for n in range(600)]
    states = states_table([row(f"u{n}", profile, n) for n, profile in enumerate(profiles)])
    at_ms = DAY_0 + 3 * DAY_MS
    table = feature_table(states, at_ms=at_ms)
    expected_NF = np.stack([features(profile, at_ms) for profile in profiles])
    assert table.schema == REFERENCE_SCHEMA
    np.testing.assert_array_equal(np.stack([table[name].to_numpy() for name in FEATURE_NAMES], axis=1), expected_NF)


def test_nobody_gives_an_empty_table() -> None:
    table = feature_table(states_table([]), at_ms=DAY_0)
    assert (table.num_rows, table.schema) == (0, REFERENCE_SCHEMA)


def test_features_now_are_those_of_the_latest_state_known_by_then(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write_states(0, 0, 2, [row("ann", shopper(1), 1), row("ben", shopper(2), 2)])
    lake.write_states(0, 2, 3, [row("ann", shopper(5, received_ms=DAY_0 + 10), 3)])
    assert sorted(current_features(lake, at_ms=DAY_0 + 9)["orders"].to_pylist()) == [1, 2]
    assert sorted(current_features(lake, at_ms=DAY_0 + 10)["orders"].to_pylist()) == [2, 5]


def test_a_frozen_reference_is_read_back(tmp_path: Path) -> None:
    frozen = feature_table(pa.Table.from_pylist([to_row(shopper(3)), to_row(EMPTY)]), at_ms=DAY_0)
    pq.write_table(frozen, tmp_path / "reference.parquet")
    assert frozen_reference(tmp_path)["orders"].to_pylist() == [3, 0]


def test_a_model_without_a_reference_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="train it again"):
        frozen_reference(tmp_path)


def test_a_reference_of_other_features_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"shoe_size": [42.0]}), tmp_path / "reference.parquet")
    with pytest.raises(BundleError, match="shoe_size"):
        frozen_reference(tmp_path)
