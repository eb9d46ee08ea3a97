"""The control store's part for watching: what was observed, and which alerts are on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Column, Float, String, Table, delete, select, update

from bespoke.clock import DAY_MS, from_ms, to_ms
from bespoke.errors import NotFound
from storage.control_tables import ControlPart, metadata, record_in
from storage.sql import reading, upsert, writing

KEEP_MS = 400 * DAY_MS

observations = Table(
    "observations",
    metadata,
    Column("kind", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float),
    Column("off", Boolean, nullable=False),
    Column("words", String, nullable=False),
    comment="What monitoring found: of one kind (drift, ...) and one subject (a column, ...) at one time.",
)

alerts = Table(
    "alerts",
    metadata,
    Column("name", String, primary_key=True),
    Column("subject", String, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("value", Float),
    Column("words", String, nullable=False),
    Column("told_ms", BigInteger),
    Column("acknowledged_by", String),
    comment="Alerts that are on; told_ms is when somebody was last told.",
)


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was found."""

    kind: str
    subject: str
    at: datetime
    value: float | None
    off: bool
    """Whether it is not as it should be."""
    words: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert that is on."""

    name: str
    """The rule's."""
    subject: str
    since: datetime
    last: datetime
    """When it was last found so."""
    value: float | None
    words: str
    told: datetime | None = None
    acknowledged_by: str | None = None


class Watch(ControlPart):
    """Observations and alerts."""

    def observe(self, found: Sequence[Observation]) -> None:
        """Keep observations; those of 400 days ago are forgotten."""
        if not found:
            return
        rows = [
            {
                "kind": one.kind,
                "subject": one.subject,
                "at_ms": to_ms(one.at),
                "value": one.value,
                "off": one.off,
                "words": one.words,
            }
            for one in found
        ]
        oldest_ms = to_ms(max(one.at for one in found)) - KEEP_MS
        with writing(self._engine) as connection:
            connection.execute(upsert(self._engine, observations, update=["value", "off", "words"]), rows)
            connection.execute(delete(observations).where(observations.c.at_ms < oldest_ms))

    def observed(self, kind: str, *, subject: str | None = None, since: datetime | None = None) -> list[Observation]:
        """Return what was observed, oldest first."""
        columns = observations.c
        query = select(observations).where(columns.kind == kind).order_by(columns.at_ms, columns.subject)
        if subject is not None:
            query = query.where(columns.subject == subject)
        if since is not None:
            query = query.where(columns.at_ms >= to_ms(since))
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [Observation(row.kind, row.subject, from_ms(row.at_ms), row.value, row.off, row.words) for row in rows]

    def alerts(self) -> list[Alert]:
        """Return the alerts that are on, the oldest first."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(alerts).order_by(alerts.c.since_ms, alerts.c.name)).all()
        return [
            Alert(
                row.name,
                row.subject,
                from_ms(row.since_ms),
                from_ms(row.last_ms),
                row.value,
                row.words,
                None if row.told_ms is None else from_ms(row.told_ms),
                row.acknowledged_by,
            )
            for row in rows
        ]

    def raise_alert(self, alert: Alert, *, at: datetime) -> None:
        """Put an alert on, or say that it still is; who acknowledged it stays."""
        row = {
            "name": alert.name,
            "subject": alert.subject,
            "since_ms": to_ms(alert.since),
            "last_ms": to_ms(alert.last),
            "value": alert.value,
            "words": alert.words,
            "told_ms": None if alert.told is None else to_ms(alert.told),
            "acknowledged_by": alert.acknowledged_by,
        }
        mine = (alerts.c.name == alert.name) & (alerts.c.subject == alert.subject)
        with writing(self._engine) as connection:
            known = connection.execute(select(alerts.c.name).where(mine)).first() is not None
            changed = ["last_ms", "value", "words", "told_ms"]
            connection.execute(upsert(self._engine, alerts, update=changed), row)
            if not known:
                details = {"words": alert.words, "value": alert.value}
                record_in(connection, "alert.on", _subject(alert), by="alerts", at=at, details=details)

    def end_alert(self, alert: Alert, *, at: datetime) -> None:
        """Take an alert off."""
        mine = (alerts.c.name == alert.name) & (alerts.c.subject == alert.subject)
        with writing(self._engine) as connection:
            connection.execute(delete(alerts).where(mine))
            record_in(connection, "alert.off", _subject(alert), by="alerts", at=at, details={})

    def acknowledge(self, name: str, *, by: str, at: datetime, subject: str | None = None) -> int:
        """Say that somebody looks after an alert: nobody is told of it again while it is on.

        Raises:
            NotFound: no such alert is on.
        """
        mine = alerts.c.name == name
        if subject is not None:
            mine &= alerts.c.subject == subject
        with writing(self._engine) as connection:
            count = connection.execute(update(alerts).where(mine).values(acknowledged_by=by)).rowcount
            if not count:
                raise NotFound(f"no alert {name!r} is on; `bespoke alerts list` shows those that are")
            record_in(connection, "alert.acknowledge", f"alert:{name}", by=by, at=at, details={"subject": subject})
        return int(count)


def _subject(alert: Alert) -> str:
    return f"alert:{alert.name}" + (f"/{alert.subject}" if alert.subject else "")
