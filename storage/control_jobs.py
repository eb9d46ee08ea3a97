"""Jobs: what one stage asks another to do, done by whoever claims it, taken over when that one dies."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from bespoke.clock import from_ms, to_ms
from bespoke.errors import NotFound
from storage.control_tables import ControlPart, jobs
from storage.sql import Superseded, reading, writing


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """One job."""

    job_id: int
    kind: str
    arguments: Mapping[str, Any]
    by: str
    enqueued_at: datetime
    state: JobState
    attempts: int
    """How often it was claimed: more than once means that a worker died or overran its lease."""
    worker: str | None
    lease_until: datetime | None
    """When another worker may take it over."""
    finished_at: datetime | None
    result: Any
    error: str | None


class Jobs(ControlPart):
    """The jobs of the control store."""

    def enqueue(self, kind: str, arguments: Mapping[str, Any], *, by: str, at: datetime) -> int:
        """Ask for a job, with arguments that JSON can carry; return its id."""
        with writing(self._engine) as connection:
            return enqueue_in(connection, kind, arguments, by=by, at=at)

    def claim(self, worker: str, *, at: datetime, lease: timedelta, kinds: Collection[str] | None = None) -> Job | None:
        """Take the oldest job that waits, or whose worker's lease has run out; None if there is none.

        Args:
            worker: who takes it; unique among those that run at the same time.
            at: now.
            lease: how long others leave it alone; :meth:`renew` prolongs it.
            kinds: only jobs of these; of any if absent.
        """
        columns = jobs.c
        left_behind = (columns.state == JobState.RUNNING) & (columns.lease_until_ms <= to_ms(at))
        open_jobs = select(columns.id).where(or_(columns.state == JobState.QUEUED, left_behind))
        if kinds is not None:
            open_jobs = open_jobs.where(columns.kind.in_(kinds))
        with writing(self._engine) as connection:
            job_id = connection.scalar(open_jobs.order_by(columns.id).limit(1).with_for_update(skip_locked=True))
            if job_id is None:
                return None
            taken = {
                "state": JobState.RUNNING,
                "worker": worker,
                "attempts": columns.attempts + 1,
                "lease_until_ms": to_ms(at + lease),
            }
            connection.execute(update(jobs).where(columns.id == job_id).values(taken))
            return _job(connection.execute(select(jobs).where(columns.id == job_id)).one())

    def renew(self, job_id: int, worker: str, *, at: datetime, lease: timedelta) -> None:
        """Prolong the lease of a claimed job.

        Raises:
            Superseded: another worker has taken it over, or it is finished.
        """
        self._change_claimed(job_id, worker, {"lease_until_ms": to_ms(at + lease)})

    def release(self, job_id: int, worker: str) -> None:
        """Give a claimed job back, as if it had not been claimed.

        Raises:
            Superseded: another worker has taken it over, or it is finished.
        """
        back = {"state": JobState.QUEUED, "worker": None, "lease_until_ms": None, "attempts": jobs.c.attempts - 1}
        self._change_claimed(job_id, worker, back)

    def finish(self, job_id: int, worker: str, *, at: datetime, result: Any = None, error: str | None = None) -> None:
        """Say how a claimed job ended: with a result that JSON can carry, or with an error.

        Raises:
            Superseded: another worker has taken it over, or it is finished.
        """
        state = JobState.DONE if error is None else JobState.FAILED
        ended = {"state": state, "finished_ms": to_ms(at), "result": result, "error": error, "lease_until_ms": None}
        self._change_claimed(job_id, worker, ended)

    def _change_claimed(self, job_id: int, worker: str, values: Mapping[str, Any]) -> None:
        columns = jobs.c
        mine = (columns.id == job_id) & (columns.worker == worker) & (columns.state == JobState.RUNNING)
        with writing(self._engine) as connection:
            if connection.execute(update(jobs).where(mine).values(**values)).rowcount != 1:
                raise Superseded(
                    f"job {job_id}: worker {worker!r} no longer holds it; drop what it did, or renew the lease earlier"
                )

    def job(self, job_id: int) -> Job:
        """Return a job.

        Raises:
            NotFound: there is no such job.
        """
        with reading(self._engine) as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
        if row is None:
            raise NotFound(f"job {job_id}: no such job")
        return _job(row)

    def list_jobs(self, *, limit: int = 100) -> list[Job]:
        """Return the newest jobs, newest first."""
        with reading(self._engine) as connection:
            return [_job(row) for row in connection.execute(select(jobs).order_by(jobs.c.id.desc()).limit(limit))]


def enqueue_in(connection: Connection, kind: str, arguments: Mapping[str, Any], *, by: str, at: datetime) -> int:
    """Ask for a job in a transaction that asks for more; return its id."""
    row = {
        "kind": kind,
        "arguments": dict(arguments),
        "by": by,
        "enqueued_ms": to_ms(at),
        "state": JobState.QUEUED,
        "attempts": 0,
    }
    job_id: int = connection.execute(jobs.insert().values(row).returning(jobs.c.id)).scalar_one()
    return job_id


def _job(row: Row[*tuple[Any, ...]]) -> Job:
    return Job(
        job_id=row.id,
        kind=row.kind,
        arguments=row.arguments,
        by=row.by,
        enqueued_at=from_ms(row.enqueued_ms),
        state=JobState(row.state),
        attempts=row.attempts,
        worker=row.worker,
        lease_until=_time(row.lease_until_ms),
        finished_at=_time(row.finished_ms),
        result=row.result,
        error=row.error,
    )


def _time(ms: int | None) -> datetime | None:
    return None if ms is None else from_ms(ms)
