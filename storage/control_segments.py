"""The control store's part for segments: how many people were in each, over time."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import delete, select

from bespoke.clock import DAY_MS, MINUTE_MS, from_ms, to_ms
from storage.control_tables import ControlPart, segment_sizes
from storage.sql import reading, upsert, writing

KEEP_MS = 400 * DAY_MS
STEP_MS = 10 * MINUTE_MS
"""One size is kept of each so long, the last one."""


class SegmentSizes(ControlPart):
    """Sizes of segments."""

    def save_sizes(self, sizes: Mapping[str, int], *, at: datetime) -> None:
        """Keep how many people are in each segment; those of 400 days ago are forgotten."""
        at_ms = to_ms(at) // STEP_MS * STEP_MS
        # In order, so that two writers never wait for one another's rows.
        rows = [{"segment": segment, "at_ms": at_ms, "members": count} for segment, count in sorted(sizes.items())]
        with writing(self._engine, durable=False) as connection:
            if rows:
                connection.execute(upsert(self._engine, segment_sizes, update=["members"]), rows)
            connection.execute(delete(segment_sizes).where(segment_sizes.c.at_ms < at_ms - KEEP_MS))

    def sizes(self, segment: str, *, since: datetime | None = None, limit: int = 1_000) -> list[tuple[datetime, int]]:
        """Return the newest ``limit`` sizes of a segment, oldest first, each with the beginning of its ten minutes."""
        columns = segment_sizes.c
        query = select(columns.at_ms, columns.members).where(columns.segment == segment)
        if since is not None:
            query = query.where(columns.at_ms >= to_ms(since))
        with reading(self._engine) as connection:
            rows = connection.execute(query.order_by(columns.at_ms.desc()).limit(limit)).all()
        return [(from_ms(row.at_ms), row.members) for row in reversed(rows)]
