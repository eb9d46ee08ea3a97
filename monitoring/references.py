"""References: the features that a model was trained on, and the features now."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bespoke.errors import BundleError, NotFound
from storage.lake import Lake
from storage.reference import REFERENCE_SCHEMA, feature_table

REFERENCE_FILE = "reference.parquet"


def frozen_reference(bundle: Path) -> pa.Table:
    """Return the features that were frozen with a model.

    Args:
        bundle: the model's folder.

    Raises:
        NotFound: the model has no reference.
        BundleError: the reference is of other features than this version derives.
    """
    path = bundle / REFERENCE_FILE
    if not path.exists():
        raise NotFound(f"{path}: the model was published without a reference; train it again")
    table = pq.read_table(path)
    if set(table.column_names) != set(REFERENCE_SCHEMA.names):
        changed = sorted(set(table.column_names) ^ set(REFERENCE_SCHEMA.names))
        raise BundleError(f"{path}: the features {', '.join(changed)} exist on one side only; train the model again")
    return table.select(REFERENCE_SCHEMA.names)


def current_features(lake: Lake, *, at_ms: int) -> pa.Table:
    """Return the features, as seen at ``at_ms``, of everybody who was known by then."""
    return feature_table(lake.latest_states(until_ms=at_ms + 1), at_ms=at_ms)
