"""Who was shown which variant, and what they did before and after: an experiment's part of the lake, by DuckDB."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bespoke.clock import DAY_MS
from bespoke.events import (
    ANONYMOUS,
    EVENT_FAILED,
    RECOMMENDATION_SERVED,
    RECOMMENDATION_VIEWED,
    SEGMENT_ENTERED,
    SEGMENT_LEFT,
)
from bespoke.experiments import Unit
from bespoke.statistics.declared import Counted
from storage.lake import Lake
from storage.lake_tables import EVENTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "1GB"
BEFORE_MS = 14 * DAY_MS
Values = npt.NDArray[np.float64]

# Copied, so that each metric reads what is there and not files that may have been merged away meanwhile.
_HAPPENED = """
CREATE TABLE happened AS
SELECT name, interaction, user_id, anonymous_id, person, at_ms, lines, properties_json AS properties,
       json_extract_string(properties_json, '$.recommendation_id') AS recommendation_id
FROM {source}
WHERE at_ms >= $since AND at_ms < $until AND (type = 'track' OR (user_id IS NOT NULL AND anonymous_id IS NOT NULL))
"""

# A device that several people use stays with nobody.
_ALIASES = """
CREATE TABLE aliases AS
SELECT $anonymous || anonymous_id AS alias, min(user_id) AS person
FROM happened WHERE user_id IS NOT NULL AND anonymous_id IS NOT NULL
GROUP BY 1 HAVING count(DISTINCT user_id) = 1
"""

_DID = """
CREATE TABLE did AS
SELECT happened.*, CASE WHEN $by_device THEN coalesce($anonymous || happened.anonymous_id, happened.person)
                        ELSE coalesce(aliases.person, happened.person) END AS unit
FROM happened LEFT JOIN aliases ON happened.person = aliases.alias
"""

_SERVED = """
CREATE TABLE served AS
WITH every AS (
    SELECT unit, at_ms, recommendation_id, properties,
           unnest(from_json(json_extract(properties, '$.assignments'), $form)) AS assigned
    FROM did WHERE name = $event AND at_ms >= $since
)
SELECT unit, at_ms, recommendation_id, assigned.variant AS variant, assigned.phase AS phase,
       json_extract_string(properties, '$.surface') AS surface, json_extract_string(properties, '$.channel') AS channel
FROM every
WHERE assigned.experiment = $experiment AND NOT coalesce(assigned.override, false)
"""
_VISITED = """
CREATE TABLE served AS
SELECT unit, at_ms, recommendation_id, '' AS variant, 0 AS phase, NULL AS surface, NULL AS channel
FROM did WHERE at_ms >= $since AND name IS NOT NULL AND name NOT IN ($entered, $left, $failed)
"""
_ASSIGNMENTS = '[{"experiment": "VARCHAR", "variant": "VARCHAR", "phase": "INTEGER", "override": "BOOLEAN"}]'

_SEEN = """
CREATE TABLE seen AS
SELECT DISTINCT served.*
FROM served JOIN did AS viewed USING (recommendation_id)
WHERE viewed.name = $event AND viewed.at_ms >= served.at_ms
"""

_FOUND = """
CREATE TABLE found AS
SELECT unit, arg_min(variant, at_ms) AS variant, min(at_ms) AS at_ms, arg_min(surface, at_ms) AS surface,
       arg_min(channel, at_ms) AS channel, count(DISTINCT variant) AS variants
FROM {exposures} WHERE list_contains($phases, phase)
GROUP BY unit
"""

_UNITS = """
CREATE TABLE units AS
SELECT row_number() OVER (ORDER BY unit) - 1 AS row, * EXCLUDE variants FROM found WHERE variants = 1
"""

_SUMS = """
WITH chosen AS (
    SELECT {unit} AS unit, did.at_ms, {value} AS value
    FROM did {joined} WHERE did.name = $event OR did.interaction = $event
)
SELECT units.row, sum(chosen.value) AS value
FROM units JOIN chosen ON chosen.unit = units.unit
 AND chosen.at_ms >= units.at_ms + $from AND chosen.at_ms < units.at_ms + $to
GROUP BY units.row
"""
_LISTS = "JOIN (SELECT DISTINCT unit, recommendation_id FROM served) AS lists USING (recommendation_id)"


@dataclass(frozen=True, slots=True)
class Question:
    """Whose exposures are meant."""

    experiment: str | None
    """None: everybody who did anything, as if that were an exposure."""
    unit: Unit
    since_ms: int
    until_ms: int
    phases: Sequence[int]
    """Only units that were assigned in one of these."""
    before_ms: int = BEFORE_MS
    """So much before a unit's first exposure is what it did before."""


class Exposures:
    """The units of an experiment, ready to be asked what they did; get them from :func:`exposures`."""

    units: pa.Table
    """One row for each unit that saw one variant only: ``unit, variant, at_ms, surface, channel``."""
    crossed: int
    """Units that saw two variants; they are left out."""
    by_view: bool
    """Whether clients say what was seen: then that is the exposure, and being served is not."""

    def __init__(self, connection: "DuckDBPyConnection", paths: Sequence[Path], question: Question) -> None:
        """Find the units in some files of events.

        Raises:
            FileNotFoundError: a file was merged away meanwhile.
        """
        self._connection = connection
        with vanishing():
            self._gather(paths, question)
        self._find(question)

    def _gather(self, paths: Sequence[Path], question: Question) -> None:
        for (name,) in self._connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            self._connection.execute(f"DROP TABLE {name}")
        values: dict[str, Any] = {"since": question.since_ms - question.before_ms, "until": question.until_ms}
        if paths:
            values["paths"] = [str(path) for path in paths]
            source = "read_parquet($paths, hive_partitioning = false)"
        else:
            self._connection.register("nothing", EVENTS.empty_table())
            source = "nothing"
        self._connection.execute(_HAPPENED.format(source=source), values)

    def _find(self, question: Question) -> None:
        run, since = self._connection.execute, question.since_ms
        run(_ALIASES, {"anonymous": ANONYMOUS})
        run(_DID, {"anonymous": ANONYMOUS, "by_device": question.unit is Unit.DEVICE})
        if question.experiment is None:
            run(_VISITED, {"entered": SEGMENT_ENTERED, "left": SEGMENT_LEFT, "failed": EVENT_FAILED, "since": since})
        else:
            shown = {"event": RECOMMENDATION_SERVED, "experiment": question.experiment, "form": _ASSIGNMENTS}
            run(_SERVED, {**shown, "since": since})
        run(_SEEN, {"event": RECOMMENDATION_VIEWED})
        self.by_view = question.experiment is not None and self._one("SELECT count(*) FROM seen") > 0
        run(_FOUND.format(exposures="seen" if self.by_view else "served"), {"phases": list(question.phases)})
        self.crossed = self._one("SELECT count(*) FROM found WHERE variants > 1")
        run(_UNITS)
        self.units = run("SELECT * EXCLUDE row FROM units ORDER BY row").fetch_arrow_table()

    def _one(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def sums(self, counted: Counted, *, from_ms: int, to_ms: int) -> Values:
        """Return what each unit did, in the order of ``units``; 0 for whoever did nothing.

        Args:
            counted: of which events what is summed up.
            from_ms: counted from the unit's first exposure, included; below 0: before it.
            to_ms: the end, not included.
        """
        by_list = counted.joined == "recommendation"
        query = _SUMS.format(
            unit="lists.unit" if by_list else "did.unit", value=_value(counted), joined=_LISTS if by_list else ""
        )
        asked = {"event": counted.event, "from": from_ms, "to": to_ms, **_named(counted)}
        rows = self._connection.execute(query, asked).fetch_arrow_table()
        sums = np.zeros(self.units.num_rows)
        sums[rows["row"].to_numpy()] = np.nan_to_num(rows["value"].to_numpy(), nan=0.0, posinf=0.0, neginf=0.0)
        return sums


@contextmanager
def exposures(lake: Lake, question: Question) -> Iterator[Exposures]:
    """Read an experiment's exposures; what was opened is closed at the end.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    with database() as connection:
        yield lake.read_files("events", lambda paths: Exposures(connection, paths, question))


def _value(counted: Counted) -> str:
    """Return the SQL of one event's value; names from declarations are bound, and never part of it."""
    if counted.value == "count":
        return "1.0"
    if counted.value == "quantity":
        return "list_sum([line.quantity for line in did.lines])"
    if counted.value == "revenue":
        return "list_sum([line.quantity * line.price for line in did.lines])"
    return "try_cast(json_extract_string(did.properties, $path) AS DOUBLE)"


def _named(counted: Counted) -> Mapping[str, str]:
    kind, _, name = counted.value.partition(":")
    return {"path": f'$."{name}"'} if kind == "property" else {}


@contextmanager
def database() -> Iterator["DuckDBPyConnection"]:
    """Open a database in memory; what does not fit there goes to a folder that is gone afterwards."""
    import duckdb

    with (
        tempfile.TemporaryDirectory(prefix="bespoke-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": folder}) as connection,
    ):
        yield connection


@contextmanager
def vanishing() -> Iterator[None]:
    """Raise FileNotFoundError where DuckDB found a file gone."""
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        raise FileNotFoundError(str(error)) from error


_SHOWN = """
SELECT at_ms, properties_json AS properties FROM read_parquet($paths, hive_partitioning = false)
WHERE name = $event AND person = $person ORDER BY at_ms DESC LIMIT $limit
"""


def shown_to(lake: Lake, person: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the newest lists that were served to a person: ``at_ms`` and what the event said.

    Raises:
        Unavailable: files of the lake kept vanishing.
    """
    import orjson

    def read(paths: list[Path]) -> list[dict[str, Any]]:
        if not paths:
            return []
        asked = {
            "paths": [str(path) for path in paths],
            "event": RECOMMENDATION_SERVED,
            "person": person,
            "limit": limit,
        }
        with database() as connection, vanishing():
            rows = connection.execute(_SHOWN, asked).fetchall()
        return [{"at_ms": at_ms, **orjson.loads(properties)} for at_ms, properties in rows]

    return lake.read_files("events", read)
