"""Reference tables: the features of many people at one time. Frozen with a model, and taken again to see what moved."""

import numpy as np
import pyarrow as pa

from bespoke.features import FEATURE_NAMES, features
from bespoke.profiles import STATE_COLUMNS, from_row

REFERENCE_SCHEMA = pa.schema([(name, pa.float64()) for name in FEATURE_NAMES])
"""One column per feature; NaN where a person gives nothing to derive it from."""

_BATCH_ROWS = 256


def feature_table(states: pa.Table, *, at_ms: int) -> pa.Table:
    """Return the features of each person as seen at ``at_ms``.

    Args:
        states: one row per person with the columns of :data:`bespoke.profiles.STATE_COLUMNS`, such as
            :meth:`storage.lake.Lake.latest_states` returns.
        at_ms: the time that features are derived for; states received later do not belong here.

    Returns:
        One row per row of ``states``, in order, of schema :data:`REFERENCE_SCHEMA`.
    """
    # States are wide: a few at a time keep the memory flat.
    batches = states.select(list(STATE_COLUMNS)).to_batches(max_chunksize=_BATCH_ROWS)
    rows = [features(from_row(row), at_ms) for batch in batches for row in batch.to_pylist()]
    values_NF = np.array(rows, np.float64).reshape(-1, len(FEATURE_NAMES))
    return pa.table(list(values_NF.T), schema=REFERENCE_SCHEMA)
