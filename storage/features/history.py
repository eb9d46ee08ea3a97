"""States as they were at some time, from the lake: what training learns from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bespoke.errors import Unavailable
from storage.features.encoding import JOIN_KEY
from storage.features.failures import unavailable_on_failure
from storage.features.repository import columns_of_view, open_store
from storage.lake_tables import STATES
from storage.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore


def historical_features(settings: Settings, people: pa.Table, *, service: str) -> pa.Table:
    """Return the state of each person at each time, from the lake: the newest one received by then.

    Args:
        settings: the installation, its definitions applied.
        people: columns ``user_id`` (string) and ``event_timestamp`` (UTC timestamp), one row per question.
        service: the feature service whose columns to return.

    Returns:
        ``people`` with the service's columns, row by row in the same order; nulls where nothing was received by then,
        or nothing for longer than a state may live.

    Raises:
        Unavailable: the definitions were never applied, or the lake's files changed while they were read.
    """
    with unavailable_on_failure():
        store = open_store(settings)
        found = store.get_feature_service(service)
    schema = pa.schema([STATES.field(name) for name in columns_of_view(found)])
    if people.num_rows == 0 or not any((settings.lake_dir / "states").glob("**/*.parquet")):
        states = pa.table([pa.nulls(people.num_rows, field.type) for field in schema], schema=schema)
    else:
        states = _joined(store, found, people, schema)
    return pa.table([*people.columns, *states.columns], names=[*people.column_names, *schema.names])


def _joined(store: "FeatureStore", service: Any, people: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the states of ``people``, in their order. Feast answers in an order of its own, equal questions once."""
    import duckdb

    asked = people.select([JOIN_KEY, "event_timestamp"]).to_pandas().drop_duplicates()
    try:
        answers = store.get_historical_features(entity_df=asked, features=service).to_arrow()
    except duckdb.Error as error:
        raise Unavailable(f"states in the lake: {error}; files may have been merged meanwhile, try again") from error
    row_of = {question: row for row, question in enumerate(_questions(answers))}
    return answers.select(schema.names).cast(schema).take([row_of[question] for question in _questions(people)])


def _questions(table: pa.Table) -> Iterator[tuple[str, int]]:
    at_ms = table["event_timestamp"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    return zip(table[JOIN_KEY].to_pylist(), at_ms.to_pylist(), strict=True)
