"""The control store's part for traffic: how each version does at answering, by replica and a few seconds at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Table, delete, select

from bespoke.clock import HOUR_MS, SECOND_MS, from_ms, to_ms
from bespoke.experiments import Health
from storage.control_tables import ControlPart, metadata
from storage.sql import reading, upsert, writing

BUCKET_MS = 5 * SECOND_MS
"""Requests of so long are counted together."""
KEEP_MS = HOUR_MS

version_health = Table(
    "version_health",
    metadata,
    Column("replica", String, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("version", String, primary_key=True),
    Column("experiment", String, primary_key=True),
    Column("variant", String, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("latency", JSON, nullable=False),
    comment="What each replica answered with each version, by five seconds; a replica rewrites its own rows.",
)
Index("version_health_at", version_health.c.at_ms)


@dataclass(frozen=True, slots=True)
class Served:
    """What answered."""

    version: str
    """``NAME@VERSION`` of the model; empty where none did."""
    experiment: str = ""
    variant: str = ""


@dataclass(frozen=True, slots=True)
class ServedHealth:
    """How one version did in one experiment's variant, in the five seconds from ``at`` on, in one replica or in all."""

    served: Served
    at: datetime
    health: Health


class TrafficHealth(ControlPart):
    """Health of the versions that answer."""

    def save_health(self, replica: str, rows: Sequence[ServedHealth], *, at: datetime) -> None:
        """Keep what a replica counted, in place of what it said of the same five seconds; an hour is kept."""
        values = [
            {
                "replica": replica,
                "at_ms": to_ms(row.at),
                "version": row.served.version,
                "experiment": row.served.experiment,
                "variant": row.served.variant,
                "count": row.health.count,
                "errors": row.health.errors,
                "missed": row.health.missed,
                "latency": list(row.health.latency),
            }
            for row in rows
        ]
        with writing(self._engine, durable=False) as connection:
            if values:
                changed = ["count", "errors", "missed", "latency"]
                connection.execute(upsert(self._engine, version_health, update=changed), values)
            connection.execute(delete(version_health).where(version_health.c.at_ms < to_ms(at) - KEEP_MS))

    def health(self, *, since: datetime, until: datetime | None = None) -> list[ServedHealth]:
        """Return what all replicas counted from ``since`` on, and before ``until``, oldest first."""
        columns = version_health.c
        query = select(version_health).where(columns.at_ms >= to_ms(since)).order_by(columns.at_ms)
        if until is not None:
            query = query.where(columns.at_ms < to_ms(until))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            ServedHealth(
                Served(row.version, row.experiment, row.variant),
                from_ms(row.at_ms),
                # row.count is a method of tuples.
                Health(row._mapping["count"], row.errors, row.missed, tuple(row.latency)),
            )
            for row in rows
        ]
