"""The control store's part for the schedule: which times of an entry have had their job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, String, Table, delete, func, select

from bespoke.clock import DAY_MS, to_ms
from storage.control_jobs import JobState, enqueue_in
from storage.control_tables import ControlPart, jobs, metadata
from storage.sql import reading, take_turns, upsert, writing

KEEP_MS = 400 * DAY_MS

schedule_slots = Table(
    "schedule_slots",
    metadata,
    Column("name", String, primary_key=True),
    Column("slot_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", BigInteger),
    comment="Times of the schedule; job_id is NULL where an entry was seen for the first time and nothing was asked.",
)


class Schedule(ControlPart):
    """Times that were served."""

    def last_slot(self, name: str) -> int | None:
        """Return the newest time of an entry that is done with, in ms; None: the entry was never seen."""
        return self._slot(name, func.max(schedule_slots.c.slot_ms))

    def first_slot(self, name: str) -> int | None:
        """Return the oldest time of an entry, in ms: since when it is on the schedule; None: it was never seen."""
        return self._slot(name, func.min(schedule_slots.c.slot_ms))

    def _slot(self, name: str, which: Any) -> int | None:
        with reading(self._engine) as connection:
            slot: int | None = connection.scalar(select(which).where(schedule_slots.c.name == name))
        return slot

    def pass_slot(self, name: str, slot_ms: int) -> None:
        """Let a time go by without a job."""
        with writing(self._engine) as connection:
            connection.execute(upsert(self._engine, schedule_slots, update=["slot_ms"]), _row(name, slot_ms, None))

    def enqueue_slot(
        self, name: str, slot_ms: int, kind: str, arguments: Mapping[str, Any], *, by: str, at: datetime
    ) -> int | None:
        """Ask for the job of a time, once: None where another scheduler did, or its earlier one goes on."""
        with writing(self._engine) as connection:
            take_turns(connection, f"schedule:{name}")
            taken = connection.scalar(
                select(func.count()).where(schedule_slots.c.name == name, schedule_slots.c.slot_ms >= slot_ms)
            )
            if taken:
                return None
            mine = select(schedule_slots.c.job_id).where(schedule_slots.c.name == name)
            waiting = select(func.count()).where(
                jobs.c.id.in_(mine), jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING))
            )
            job_id = None
            if not connection.scalar(waiting):
                job_id = enqueue_in(connection, kind, arguments, by=by, at=at)
            connection.execute(schedule_slots.insert(), _row(name, slot_ms, job_id))
            connection.execute(delete(schedule_slots).where(schedule_slots.c.slot_ms < to_ms(at) - KEEP_MS))
        return job_id


def _row(name: str, slot_ms: int, job_id: int | None) -> dict[str, Any]:
    return {"name": name, "slot_ms": slot_ms, "job_id": job_id}
