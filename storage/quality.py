"""The quality store: how many events came in, what was wrong with them, and those that failed, kept for another try."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from bespoke.clock import DAY_MS, HOUR_MS
from storage.sql import open_engine, reading, upsert, writing
from storage.sqlite import BUSY_TIMEOUT_S, reachable

MAX_FAILED = 50_000
"""How many failed events are kept; past it the oldest go."""
FAILED_DAYS = 30
"""How long failed events are kept: they are personal data."""
COUNT_DAYS = 100
"""How long counts are kept, from the newest hour back."""
AT_ONCE = 500
"""Ids per statement."""

metadata = MetaData()

counts = Table(
    "quality_counts",
    metadata,
    Column("hour_ms", BigInteger, primary_key=True),
    Column("source", String, primary_key=True),
    Column("type", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("what", String, primary_key=True),
    Column("n", BigInteger, nullable=False),
    comment="What came in, by the hour of receipt. Writers add to a row, so several may write it.",
)

failed_events = Table(
    "failed_events",
    metadata,
    Column("failed_id", String, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("kept_ms", BigInteger, nullable=False),
    Column("source", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("error", String, nullable=False),
    Column("route", String),
    Column("sent_at", String),
    Column("person", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    comment="Refused messages as they were sent. Personal data.",
)
Index("failed_events_by_time", failed_events.c.received_ms, failed_events.c.failed_id)
Index("failed_events_by_age", failed_events.c.kept_ms)
Index("failed_events_by_person", failed_events.c.person)


class CountKey(NamedTuple):
    """What one counter counts."""

    hour_ms: int
    source: str
    type: str
    name: str
    what: str
    """Such as ``accepted``, ``rejected:userId``, ``violation:type:price``, ``missing:price`` or ``duplicate``."""


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A refused message, as it was sent."""

    received_ms: int
    source: str
    reason: str
    """What it counts as: the field that was wrong, or ``plan:`` and the rule that it broke."""
    error: str
    """The whole reason in words; may hold what was sent."""
    route: str | None
    """The type that the route said, or None where the message says it."""
    sent_at: str | None
    """The batch's ``sentAt``, as JSON."""
    person: str
    """The id that the message names, where it names one; so that a person's failed events can be erased."""
    payload: bytes
    """The message as JSON; empty where it was too large to keep."""

    @property
    def failed_id(self) -> str:
        """Return what names it: the same message of the same source is kept once, however often it is sent."""
        said = "\0".join((clean(self.source), self.route or ""))
        return blake2b(said.encode() + b"\0" + self.payload, digest_size=16).hexdigest()


class QualityStore:
    """Counters and failed events. Threads and processes may share it."""

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the store, creating what is missing; a file is readable by its owner alone.

        Raises:
            ConfigError: no engine is known for such an address.
            Unavailable: the database cannot be reached.
        """
        _create_private(url)
        self._engine = open_engine(url, metadata, busy_timeout_s=busy_timeout_s)
        dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[self._engine.dialect.name]
        added: Any = dialect.insert(counts)
        self._add = added.on_conflict_do_update(
            index_elements=list(counts.primary_key.columns), set_={"n": counts.c.n + added.excluded.n}
        )

    def write(self, added: Mapping[CountKey, int], failed: Iterable[FailedEvent] = (), *, now_ms: int) -> None:
        """Add to counters and keep failed events, all or nothing. A power cut may take the last ones back.

        Raises:
            Unavailable: the database cannot be written.
        """
        # In order, so that two writers never wait for one another's rows.
        rows = [{**key._asdict(), "n": n} for key, n in sorted(added.items())]
        kept = {one.failed_id: _row(one, now_ms=now_ms) for one in failed}
        with writing(self._engine, durable=False) as connection:
            if rows:
                connection.execute(self._add, rows)
            if kept:
                connection.execute(upsert(self._engine, failed_events, update=()), [kept[key] for key in sorted(kept)])

    def trim(self, *, now_ms: int) -> int:
        """Delete what is past its time or number; return how many failed events went.

        Raises:
            Unavailable: the database cannot be written.
        """
        with writing(self._engine, durable=False) as connection:
            newest = connection.execute(select(func.max(counts.c.hour_ms))).scalar()
            if newest is not None:
                connection.execute(delete(counts).where(counts.c.hour_ms < newest - COUNT_DAYS * DAY_MS))
            old = delete(failed_events).where(failed_events.c.kept_ms < now_ms - FAILED_DAYS * DAY_MS)
            gone = connection.execute(old).rowcount
            by_age = select(failed_events.c.kept_ms).order_by(failed_events.c.kept_ms.desc())
            last = connection.execute(by_age.offset(MAX_FAILED).limit(1)).scalar()
            if last is not None:
                gone += connection.execute(delete(failed_events).where(failed_events.c.kept_ms <= last)).rowcount
        return int(gone)

    def totals(self, *, since_ms: int, until_ms: int, what: str | None = None) -> dict[CountKey, int]:
        """Return the sums over the hours in ``[since_ms, until_ms)``, under the first of them.

        Raises:
            Unavailable: the database cannot be read.
        """
        columns = (counts.c.source, counts.c.type, counts.c.name, counts.c.what)
        query = select(*columns, func.sum(counts.c.n)).group_by(*columns)
        query = query.where(counts.c.hour_ms >= since_ms, counts.c.hour_ms < until_ms)
        if what is not None:
            query = query.where(counts.c.what == what)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return {CountKey(since_ms, *row[:4]): int(row[4]) for row in rows}

    def first_hours(self) -> dict[str, int]:
        """Return the first hour that is counted, by source.

        Raises:
            Unavailable: the database cannot be read.
        """
        query = select(counts.c.source, func.min(counts.c.hour_ms)).group_by(counts.c.source)
        with reading(self._engine) as connection:
            return {source: hour_ms for source, hour_ms in connection.execute(query)}

    def failed(
        self,
        *,
        since_ms: int | None = None,
        source: str | None = None,
        reason: str | None = None,
        after: tuple[int, str] | None = None,
        newest: bool = False,
        limit: int,
    ) -> list[FailedEvent]:
        """Return failed events in the order of receipt, from the oldest.

        Args:
            since_ms: received from then on.
            source: of this source alone.
            reason: with this reason alone.
            after: past the event of this time and id.
            newest: from the newest back instead.
            limit: at most so many.

        Raises:
            Unavailable: the database cannot be read.
        """
        table = failed_events.c
        order = (table.received_ms, table.failed_id)
        query = select(failed_events).order_by(*(c.desc() if newest else c for c in order)).limit(limit)
        query = query.where(*_matching(since_ms, source, reason))
        if after is not None:
            at_ms, failed_id = after
            later = (table.received_ms == at_ms) & (table.failed_id > failed_id)
            query = query.where((table.received_ms > at_ms) | later)
        with reading(self._engine) as connection:
            return [_failed(row) for row in connection.execute(query)]

    def failed_by_reason(
        self, *, since_ms: int | None = None, source: str | None = None, reason: str | None = None
    ) -> list[tuple[str, str, int]]:
        """Return reason, source and number of failed events, the most first.

        Raises:
            Unavailable: the database cannot be read.
        """
        table, number = failed_events.c, func.count()
        query = select(table.reason, table.source, number).group_by(table.reason, table.source)
        query = query.where(*_matching(since_ms, source, reason)).order_by(number.desc(), table.reason, table.source)
        with reading(self._engine) as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def drop_failed(self, failed_ids: Sequence[str]) -> None:
        """Delete failed events, durably.

        Raises:
            Unavailable: the database cannot be written.
        """
        with writing(self._engine) as connection:
            for start in range(0, len(failed_ids), AT_ONCE):
                some = failed_ids[start : start + AT_ONCE]
                connection.execute(delete(failed_events).where(failed_events.c.failed_id.in_(some)))

    def set_reasons(self, reasons: Sequence[tuple[str, str, str]]) -> None:
        """Say anew why events fail: id, reason, error.

        Raises:
            Unavailable: the database cannot be written.
        """
        if not reasons:
            return
        statement = update(failed_events).where(failed_events.c.failed_id == bindparam("of"))
        rows = [
            {"of": failed_id, "reason": clean(reason), "error": clean(error)} for failed_id, reason, error in reasons
        ]
        with writing(self._engine, durable=False) as connection:
            connection.execute(statement, rows)

    def erase(self, person: str) -> int:
        """Delete the failed events that name ``person``, by user id or anonymous id, durably; return how many.

        Raises:
            Unavailable: the database cannot be written.
        """
        with writing(self._engine) as connection:
            return connection.execute(delete(failed_events).where(failed_events.c.person == clean(person))).rowcount

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> "QualityStore":
        """Use the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the database."""
        self.close()


def hour_of(at_ms: int) -> int:
    """Return the beginning of the hour.

    >>> hour_of(3_600_001)
    3600000
    """
    return at_ms - at_ms % HOUR_MS


def clean(text: str) -> str:
    """Return ``text`` without what databases or terminals cannot carry.

    >>> clean("a" + chr(0))
    'a\\\\x00'
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _create_private(url: str) -> None:
    """Create an SQLite file that only its owner may read; the files beside it take over its mode."""
    scheme, _, place = url.partition(":///")
    if scheme != "sqlite" or place in ("", ":memory:"):
        return
    path = Path(place)
    with reachable(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _matching(since_ms: int | None, source: str | None, reason: str | None) -> list[Any]:
    table = failed_events.c
    conditions: list[Any] = [] if since_ms is None else [table.received_ms >= since_ms]
    conditions += [] if source is None else [table.source == source]
    return conditions + ([] if reason is None else [table.reason == reason])


def _row(one: FailedEvent, *, now_ms: int) -> dict[str, Any]:
    return {
        "failed_id": one.failed_id,
        "received_ms": one.received_ms,
        "kept_ms": now_ms,
        "source": clean(one.source),
        "reason": clean(one.reason),
        "error": clean(one.error),
        "route": one.route,
        "sent_at": one.sent_at,
        "person": clean(one.person),
        "payload": one.payload,
    }


def _failed(row: Row[*tuple[Any, ...]]) -> FailedEvent:
    return FailedEvent(
        row.received_ms, row.source, row.reason, row.error, row.route, row.sent_at, row.person, bytes(row.payload)
    )
