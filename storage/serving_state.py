"""The serving state store: which variant each unit was assigned, and how often each person was shown each item."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    literal,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine
from sqlalchemy.sql.dml import Insert

from bespoke.clock import DAY_MS, HOUR_MS
from bespoke.experiments import Assignment, Kept, StoredAssignments
from storage.sql import driver_reading, open_engine, reading, upsert, writing
from storage.sqlite import BUSY_TIMEOUT_S, is_busy, open_sqlite, reachable

SHOWN_DAYS = 30
"""How often an item was shown is kept so many days."""
REPEAT_DAYS = 1
"""A decision that is repeated on the day of the first or the next one is counted once."""
TRIM_EVERY_MS = HOUR_MS

metadata = MetaData()

assignments = Table(
    "assignments",
    metadata,
    Column("unit", String, primary_key=True),
    Column("experiment", String, primary_key=True),
    Column("variant", String, nullable=False),
    Column("phase", Integer, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    comment="The variant that a unit was first shown; experiment is its name and salt.",
)

shown = Table(
    "shown",
    metadata,
    Column("person", String, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("item_id", String, primary_key=True),
    Column("count", Integer, nullable=False),
    comment="How often a person was shown an item, by UTC day.",
)
Index("shown_day", shown.c.day)

counted = Table(
    "counted",
    metadata,
    Column("recommendation_id", String, primary_key=True),
    Column("day", Integer, nullable=False, index=True),
    comment="Decisions whose items are counted in shown, so that a repeated one is not counted again.",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one decision showed to one person."""

    recommendation_id: str
    person: str
    at_ms: int
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What the store knows of one request's units."""

    assignments: StoredAssignments = field(default_factory=dict)
    shown: Mapping[str, int] = field(default_factory=dict)
    """How often each item was shown to any of them, since the beginning of the UTC day that was asked for."""


class ServingState:
    """What replicas share between requests. Threads and processes may share it.

    A write is not synced to disk before it returns: after a power cut the newest assignments may be gone, and the hash
    makes nearly all of them again.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the store, creating its tables where they are missing.

        Raises:
            ConfigError: no engine is known for such an address.
            Unavailable: the database cannot be reached.
        """
        self._engine = open_engine(url, metadata, busy_timeout_s=busy_timeout_s)
        self._prompt = _prompt_connection(self._engine)
        self._insert_shown = self._adding()
        self._trimmed_ms = 0

    def read(self, units: Sequence[str], *, since_ms: int = 0, shown: bool = False) -> Held:
        """Return what is known of ``units``, in one query.

        Args:
            units: the ids of one request, the person's first.
            since_ms: exposures are counted from the UTC day of this moment on.
            shown: whether to count exposures at all.

        Raises:
            Unavailable: the store cannot be read.
        """
        day = since_ms // DAY_MS if shown else None
        embedded = self._engine.dialect.name == "sqlite"
        return _held(self._read_embedded(units, day=day) if embedded else self._read(units, day=day))

    def read_at_once(self, units: Sequence[str], *, since_ms: int = 0, shown: bool = False) -> Held | None:
        """Return the same where that waits for nobody but the disk; else None. For one thread.

        Raises:
            Unavailable: the store cannot be read.
        """
        if self._prompt is None:
            return None
        with reachable(str(self._engine.url.database)):
            try:
                return _held(_selected(self._prompt, units, day=since_ms // DAY_MS if shown else None))
            except sqlite3.OperationalError as error:
                if is_busy(error):
                    return None
                raise

    def write(self, *, assignments: Sequence[Assignment] = (), shown: Sequence[Shown] = (), now_ms: int) -> None:
        """Store new assignments, of which the first one wins, and count what was shown; in one transaction.

        The same batch may be written again. Counts of 30 days ago are forgotten.

        Raises:
            Unavailable: the store cannot be written; nothing of it is stored.
        """
        with writing(self._engine, durable=False) as connection:
            self._assign(connection, assignments)
            self._count(connection, shown)
        if now_ms - self._trimmed_ms >= TRIM_EVERY_MS:
            self.trim(now_ms=now_ms)
            self._trimmed_ms = now_ms

    def trim(self, *, now_ms: int) -> None:
        """Forget counts of 30 days ago, and the ids of decisions that nobody repeats any more."""
        today = now_ms // DAY_MS
        with writing(self._engine, durable=False) as connection:
            connection.execute(delete(shown).where(shown.c.day < today - SHOWN_DAYS))
            connection.execute(delete(counted).where(counted.c.day < today - REPEAT_DAYS))

    def assigned(self, experiment: str) -> dict[tuple[str, int], int]:
        """Return how many units are assigned, by variant and the phase it was made in; ``experiment`` is a key."""
        columns = assignments.c
        query = select(columns.variant, columns.phase, func.count()).where(columns.experiment == experiment)
        with reading(self._engine) as connection:
            rows = connection.execute(query.group_by(columns.variant, columns.phase)).all()
        return {(variant, phase): n for variant, phase, n in sorted(map(tuple, rows))}

    def forget(self, units: Collection[str]) -> None:
        """Delete everything of ``units``, as erasure asks for."""
        with writing(self._engine) as connection:
            connection.execute(delete(assignments).where(assignments.c.unit.in_(units)))
            connection.execute(delete(shown).where(shown.c.person.in_(units)))

    def close(self) -> None:
        """Let go of the database."""
        if self._prompt is not None:
            self._prompt.close()
            self._prompt = None
        self._engine.dispose()

    def __enter__(self) -> Self:
        """Use the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the database."""
        self.close()

    def _read(self, units: Sequence[str], *, day: int | None) -> Sequence[Sequence[Any]]:
        query, values = (_ASSIGNED, {}) if day is None else (_BOTH, {"day": day})
        with reading(self._engine) as connection:
            return connection.execute(query, {"units": list(units), **values}).all()

    def _read_embedded(self, units: Sequence[str], *, day: int | None) -> Sequence[Sequence[Any]]:
        with driver_reading(self._engine) as driver:
            return _selected(driver, units, day=day)

    def _assign(self, connection: Connection, made: Sequence[Assignment]) -> None:
        made = sorted(made, key=lambda one: (one.unit, one.key))
        if made:
            connection.execute(upsert(self._engine, assignments, update=[]), [_key(one) | _value(one) for one in made])
        replaced = [
            {"of_unit": one.unit, "of_experiment": one.key, "of_variant": one.replaces} | _value(one)
            for one in made
            if one.replaces is not None
        ]
        if replaced:
            connection.execute(_REPLACE, replaced)

    def _count(self, connection: Connection, decisions: Sequence[Shown]) -> None:
        if not decisions:
            return
        by_id = {one.recommendation_id: one for one in decisions}
        insert = upsert(self._engine, counted, update=[]).returning(counted.c.recommendation_id)
        # In order, so that two writers never wait for one another's rows.
        new = set(
            connection.scalars(insert, [{"recommendation_id": id, "day": _day(by_id[id])} for id in sorted(by_id)])
        )
        counts: dict[tuple[str, int, str], int] = {}
        for one in (by_id[id] for id in new):
            for item_id in one.item_ids:
                key = (one.person, _day(one), item_id)
                counts[key] = counts.get(key, 0) + 1
        rows = [
            {"person": person, "day": day, "item_id": item_id, "count": n}
            for (person, day, item_id), n in sorted(counts.items())
        ]
        if rows:
            connection.execute(self._insert_shown, rows)

    def _adding(self) -> Insert:
        dialect: Any = {"sqlite": sqlite, "postgresql": postgresql}[self._engine.dialect.name]
        insert: Any = dialect.insert(shown)
        keys = list(shown.primary_key.columns)
        added: Insert = insert.on_conflict_do_update(
            index_elements=keys, set_={"count": shown.c.count + insert.excluded["count"]}
        )
        return added


def _selected(driver: sqlite3.Connection, units: Sequence[str], *, day: int | None) -> Sequence[Sequence[Any]]:
    """Return what SQLite has of ``units``, without SQLAlchemy, which takes ten times as long over it as SQLite."""
    marks = ",".join("?" * len(units))
    query: str = _ASSIGNED_EMBEDDED.format(marks)
    values: tuple[object, ...] = (*units,)
    if day is not None:
        query, values = query + _SHOWN_EMBEDDED.format(marks), (*units, *units, day)
    rows: Sequence[Sequence[Any]] = driver.execute(query, values).fetchall()
    return rows


def _held(rows: Iterable[Sequence[Any]]) -> Held:
    kept: dict[tuple[str, str], Kept] = {}
    counts: dict[str, int] = {}
    for unit, name, variant, number, at_ms in rows:
        if variant is None:
            counts[name] = counts.get(name, 0) + number
        else:
            kept[name, unit] = Kept(variant, number, at_ms)
    return Held(kept, counts)


def _prompt_connection(engine: Engine) -> sqlite3.Connection | None:
    """Return a connection to an embedded store that waits for no lock."""
    if engine.dialect.name != "sqlite":
        return None
    connection = open_sqlite(Path(str(engine.url.database)))
    connection.execute("PRAGMA busy_timeout=0")
    return connection


def _key(one: Assignment) -> dict[str, Any]:
    return {"unit": one.unit, "experiment": one.key}


def _value(one: Assignment) -> dict[str, Any]:
    return {"variant": one.variant, "phase": one.phase, "at_ms": one.at_ms}


def _day(one: Shown) -> int:
    return one.at_ms // DAY_MS


_UNITS: BindParameter[Any] = bindparam("units", expanding=True)
_ASSIGNED = select(
    assignments.c.unit, assignments.c.experiment, assignments.c.variant, assignments.c.phase, assignments.c.at_ms
).where(assignments.c.unit.in_(_UNITS))
_BOTH = union_all(
    _ASSIGNED,
    select(
        literal("").label("unit"),
        shown.c.item_id,
        literal(None, String).label("variant"),
        shown.c["count"],
        literal(0).label("at_ms"),
    ).where(shown.c.person.in_(_UNITS), shown.c.day >= bindparam("day")),
)
_ASSIGNED_EMBEDDED = "SELECT unit, experiment, variant, phase, at_ms FROM assignments WHERE unit IN ({})"
_SHOWN_EMBEDDED = " UNION ALL SELECT '', item_id, NULL, \"count\", 0 FROM shown WHERE person IN ({}) AND day >= ?"
_REPLACE = (
    update(assignments)
    .where(
        assignments.c.unit == bindparam("of_unit"),
        assignments.c.experiment == bindparam("of_experiment"),
        assignments.c.variant == bindparam("of_variant"),
    )
    .values(variant=bindparam("variant"), phase=bindparam("phase"), at_ms=bindparam("at_ms"))
)
