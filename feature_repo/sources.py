"""Sources: the lake's folders for features of the past, and the push that keeps the online store current."""

import os
from pathlib import Path

from feast import FileSource, PushSource
from feast.data_format import ParquetFormat

LAKE = (Path(__file__).parent / os.environ.get("BESPOKE_HOME", "../var")).resolve() / "lake"
"""Absolute, because DuckDB would take a relative path from the working directory."""

states = FileSource(
    name="states",
    path=str(LAKE / "states/**/*.parquet"),
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    created_timestamp_column="created_timestamp",
    description="Every state that a profile was committed with; event_timestamp is when its newest event was received.",
)
user_state_push = PushSource(
    name="user_state_push",
    batch_source=states,
    description="The latest state of each profile, pushed by the processor.",
)
items = FileSource(
    name="items",
    path=str(LAKE / "items/**/*.parquet"),
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    description="What the catalog said of each item, and since when.",
)
events = FileSource(
    name="events",
    path=str(LAKE / "events/**/*.parquet"),
    file_format=ParquetFormat(),
    timestamp_field="received_at",
    description="Every event that was applied. Counts of items as of the past are made from it by "
    "storage.item_history; Feast only joins columns, so it cannot.",
)
