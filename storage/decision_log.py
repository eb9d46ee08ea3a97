"""Finding a served decision again, and the person's state that it was made from: in the lake, or the log's tail."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bespoke.errors import NotFound, Unavailable
from bespoke.events import Event, EventType, UserId
from storage.eventlog.base import EventLog, partition_of
from storage.lake import Kind, Lake
from storage.lake_files import LakeFile, counting, list_files
from storage.lake_tables import EVENTS, STATES

READ_AT_ONCE = 2_000
MAX_TAIL = 200_000
"""So many messages of a partition are looked through that are not in the lake yet, the newest."""
_TRIES = 10


class NotSearched(NotFound):
    """It may be further back than was looked."""


class TooFresh(NotFound):
    """It is not in the lake yet; asked again later, it will be."""


@dataclass(frozen=True, slots=True)
class DecisionLog:
    """What was served, and the states of people by version."""

    lake: Lake
    log: EventLog

    def find(self, message_id: str, *, day: date | None = None, give_up: Callable[[], bool] = lambda: False) -> Event:
        """Return the event with this id: the newest days are looked through first, and the log's tail before them.

        Args:
            message_id: the event's.
            day: the day of receipt, where it is known: only it and its neighbours are looked through.
            give_up: asked before each file.

        Raises:
            NotFound: there is none.
            NotSearched: it was not found before ``give_up`` said so.
            Unavailable: the log cannot be read.
        """
        return self._in_tail(message_id) or self._in_lake(message_id, day, give_up)

    def state(self, user_id: UserId, version: int) -> Mapping[str, Any]:
        """Return the columns of a person's state at a version, as :func:`bespoke.profiles.from_row` takes them.

        Raises:
            TooFresh: the lake does not reach so far yet.
            NotFound: the lake reaches further and has no such state, such as after an erasure.
        """
        partition = partition_of(user_id, self.log.partitions)
        where = (pc.field("user_id") == user_id) & (pc.field("version") == version)
        for path in self._paths("states", lambda file: _covers(file, partition, version - 1)):
            found = _read(path, STATES, where)
            if found is not None and found.num_rows:
                return dict(found.slice(0, 1).to_pylist()[0])
        if self.lake.written("states", partition) < version:
            raise TooFresh("the person's state is not in the lake yet")
        raise NotFound("the person's state of that time is no longer kept")

    def _in_tail(self, message_id: str) -> Event | None:
        for partition in range(self.log.partitions):
            end = self.log.end(partition)
            offset = max(self.lake.written("events", partition), end - MAX_TAIL)
            while offset < end and (records := self.log.read(partition, offset=offset, limit=READ_AT_ONCE)):
                for record in records:
                    if record.message_id == message_id:
                        return Event.from_payload(record.payload)
                offset = records[-1].position.offset + 1
        return None

    def _in_lake(self, message_id: str, day: date | None, give_up: Callable[[], bool]) -> Event:
        near = None if day is None else {day + timedelta(days=step) for step in (-1, 0, 1)}
        for path in self._paths("events", lambda file: near is None or file.day in near):
            if give_up():
                raise NotSearched(f"it was not served since {path.parent.name.removeprefix('day=')}")
            ids = _read(path, pa.schema([EVENTS.field("message_id")]))
            if ids is None or (row := pc.index(ids["message_id"], message_id).as_py()) < 0:
                continue
            return _event(pq.read_table(path, schema=EVENTS).slice(row, 1).to_pylist()[0])
        raise NotFound("no such decision is in the lake or the event log")

    def _paths(self, kind: Kind, wanted: Callable[[LakeFile], bool]) -> Iterator[Path]:
        """Yield the files that count, newest day first; anew where one was merged away meanwhile."""
        seen: set[Path] = set()
        for _ in range(_TRIES):
            files = [file for file in counting(list_files(self.lake.root / kind)) if wanted(file)]
            paths = [file.path for file in reversed(files) if file.path not in seen]
            for path in paths:
                seen.add(path)
                yield path
            if all(path.exists() for path in paths):
                return
        raise Unavailable(f"{self.lake.root / kind}: files kept vanishing while they were read; try again")


def _covers(file: LakeFile, partition: int, offset: int) -> bool:
    return file.partition == partition and file.first <= offset < file.next


def _read(path: Path, schema: pa.Schema, where: Any = None) -> pa.Table | None:
    """Return columns of a file; None where it was merged away, so that its rows are in another one."""
    try:
        return pq.read_table(path, columns=schema.names, schema=schema, filters=where, partitioning=None)
    except FileNotFoundError:
        return None


def _event(row: Mapping[str, Any]) -> Event:
    return Event(
        message_id=row["message_id"],
        type=EventType(row["type"]),
        name=row["name"],
        user_id=row["user_id"],
        anonymous_id=row["anonymous_id"],
        at_ms=row["at_ms"],
        received_ms=row["received_ms"],
        properties=orjson.loads(row["properties_json"]),
        traits=orjson.loads(row["traits_json"]),
        context=orjson.loads(row["context_json"]),
        source=row["source"],
    )
