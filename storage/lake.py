"""The lake: what happened and how profiles changed, as Parquet files that are only ever added.

Intervals of time are half-open everywhere: ``since_ms <= t < until_ms``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bespoke.catalog import Item
from bespoke.clock import DAY_MS
from bespoke.errors import ConfigError, Unavailable
from bespoke.events import Event, ItemId
from storage.durable import TEMPORARY_SUFFIX, replacing, sync
from storage.lake_files import LakeFile, counting, list_files
from storage.lake_latest import last_of_each, latest_states
from storage.lake_tables import (
    EVENTS,
    INTERACTIONS,
    ITEMS,
    STATES,
    StateRow,
    events_table,
    interactions_batch,
    items_table,
    states_table,
)
from storage.lock import OwnerLock
from storage.sqlite import reachable

Kind = Literal["events", "states"]

_SCHEMAS: Mapping[Kind, pa.Schema] = {"events": EVENTS, "states": STATES}
_OFFSETS: Mapping[Kind, Any] = {"events": pc.field("offset"), "states": pc.field("version") - 1}
"""The offset of the message that caused a row."""
_TIMES: Mapping[Kind, Any] = {"events": pc.field("at_ms"), "states": pc.field("received_ms")}

_EPOCH = date(1970, 1, 1)
_LOCK_TIMEOUT_S = 60.0
_READ_TRIES = 10
_WRITERS = 16
_ITEM_FIELDS = ("item_id", "name", "category", "brand", "price", "available", "rebuy_after_days")
_MERGE_BYTES = 64 << 20
"""Merged row groups are about this large in memory."""

Result = TypeVar("Result")


class Lake:
    """Events, state rows and items under one folder. One process writes a partition; any number read."""

    def __init__(self, root: Path) -> None:
        """Use the folder ``root``; it is created by the first write."""
        self.root = root

    def write_events(
        self, partition: int, first: int, next: int, events: Sequence[Event], offsets: Sequence[int] | None = None
    ) -> None:
        """Add the events of the messages ``first <= offset < next``; writing them again changes nothing.

        Args:
            partition: of the event log.
            first: the first offset that these files stand for.
            next: the offset after the last one.
            events: those to keep; repeated messages may be left out.
            offsets: each event's offset; None where no message of the range is left out.

        Raises:
            ConfigError: the offsets do not fit the range.
            Unavailable: the folder cannot be written.
        """
        placed = range(first, next) if offsets is None else offsets
        if len(placed) != len(events) or (events and not first <= min(placed) <= max(placed) < next):
            raise ConfigError(
                f"lake: got {len(events)} events for the offsets {first} to {next}, expected one offset in it for each"
            )
        if events:
            self._write("events", partition, first, next, events_table(events, placed, partition=partition))

    def write_states(self, partition: int, first: int, next: int, rows: Sequence[StateRow | Mapping[str, Any]]) -> None:
        """Add the state rows that the messages ``first <= offset < next`` caused; writing them again changes nothing.

        Args:
            partition: of the event log.
            first: the first offset that these files stand for.
            next: the offset after the last one.
            rows: from :meth:`storage.profiles.ProfileStore.take_states`, or the columns of
                :func:`bespoke.profiles.to_row` with ``user_id`` and ``version``.
        """
        if rows:
            self._write("states", partition, first, next, states_table(rows))

    def _write(self, kind: Kind, partition: int, first: int, next: int, table: pa.Table) -> None:
        """Write one file per receipt day."""
        day_N = table.column("received_ms").to_numpy() // DAY_MS

        def write(day: int) -> None:
            file = LakeFile(self.root / kind, _EPOCH + timedelta(days=day), partition, first, next)
            of_day = table if (day_N == day).all() else table.filter(pa.array(day_N == day))
            with reachable(self.root), replacing(file.path) as temporary:
                pq.write_table(of_day, temporary, compression="zstd")

        # Imported history touches many days at once, and most of a small file's time is the wait for the disk.
        with ThreadPoolExecutor(_WRITERS) as writers:
            list(writers.map(write, np.unique(day_N).tolist()))

    def write_items(self, items: Sequence[Item], *, at_ms: int) -> None:
        """Add items, or new values of known ones, as they are described since ``at_ms``."""
        with self._locked("items"):
            table = pa.concat_tables([self.items(), items_table(items, at_ms=at_ms)])
            latest = table.take(last_of_each(table.column("item_id"), np.arange(table.num_rows)))
            with replacing(self._items_path) as temporary:
                pq.write_table(latest, temporary, compression="zstd")

    @property
    def _items_path(self) -> Path:
        return self.root / "items" / "items.parquet"

    def written(self, kind: Kind, partition: int) -> int:
        """Return the offset after the last one that any file of ``partition`` stands for; 0 where there is none.

        A range without rows leaves no file, and a crash may leave some days of a range unwritten: what was committed
        decides from where to write again, after :meth:`discard_from`.
        """
        return max((file.next for file in list_files(self.root / kind) if file.partition == partition), default=0)

    def discard_from(self, kind: Kind, partition: int, offset: int) -> None:
        """Remove what the messages of ``partition`` from ``offset`` on caused, and leftovers of killed writers.

        To be called by the partition's one writer, before it writes again from ``offset``: a crash may have left files
        whose position was never committed.
        """
        with self._locked(kind):
            for leftover in (self.root / kind).glob(f"day=*/.p{partition:02d}-*{TEMPORARY_SUFFIX}"):
                leftover.unlink(missing_ok=True)
            for file in list_files(self.root / kind):
                if file.partition == partition and file.next > offset:
                    self._discard_file_from(kind, file, offset)

    def _discard_file_from(self, kind: Kind, file: LakeFile, offset: int) -> None:
        if file.first < offset:
            kept = _dataset([file.path], _SCHEMAS[kind]).to_table(filter=_OFFSETS[kind] < offset)
            shorter = LakeFile(file.folder, file.day, file.partition, file.first, offset)
            # Until the longer file is gone, this one lies within its range and does not count.
            if kept.num_rows:
                with replacing(shorter.path) as temporary:
                    pq.write_table(kept, temporary, compression="zstd")
        _remove([file])

    def files(self, kind: Kind) -> list[Path]:
        """Return the paths of the files that count, in order: by receipt day, partition and offset."""
        return [file.path for file in counting(list_files(self.root / kind))]

    def days(self, kind: Kind) -> list[date]:
        """Return the receipt days for which there are files, in order."""
        return sorted({file.day for file in list_files(self.root / kind)})

    def events(
        self, since_ms: int | None = None, until_ms: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the events that happened in an interval, of schema :data:`storage.lake_tables.EVENTS`."""
        return self._select("events", _interval("events", since_ms, until_ms), columns)

    def received_before(self, at_ms: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the events about items that were received before ``at_ms``, whenever they happened."""
        where = (pc.field("received_ms") < at_ms) & pc.field("interaction").is_valid()
        return self._select("events", where, columns)

    def interactions(self, since_ms: int | None = None, until_ms: int | None = None) -> pa.Table:
        """Return one row per line of the events that happened in an interval.

        The columns are those of :data:`storage.lake_tables.INTERACTIONS`; ``user_id`` is the id that keys the person.
        """
        return self.read_files("events", lambda paths: interactions_of(paths, since_ms=since_ms, until_ms=until_ms))

    def states(
        self, since_ms: int | None = None, until_ms: int | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Return the state rows whose newest event was received in an interval, of schema STATES."""
        return self._select("states", _interval("states", since_ms, until_ms), columns)

    def latest_states(self, until_ms: int | None = None) -> pa.Table:
        """Return each person's last state row among those received before ``until_ms``, of schema STATES."""
        return self.read_files("states", lambda paths: latest_states(paths, until_ms=until_ms))

    def items(self) -> pa.Table:
        """Return the latest values of each item, of schema :data:`storage.lake_tables.ITEMS`."""
        if not self._items_path.exists():
            return ITEMS.empty_table()
        with reachable(self.root):
            return pq.read_table(self._items_path, schema=ITEMS)

    def items_stamp(self) -> tuple[int, int] | None:
        """Return what changes when the items do: cheap to ask; None where there are none."""
        try:
            about = self._items_path.stat()
        except FileNotFoundError:
            return None
        return about.st_mtime_ns, about.st_size

    def catalog(self) -> list[Item]:
        """Return the latest description of each item."""
        items = self.items()
        columns = [items.column(name).to_pylist() for name in _ITEM_FIELDS]
        return [
            Item(ItemId(item_id), name, tuple(category), brand, price, available, rebuy_after_days=rebuy_after_days)
            for item_id, name, category, brand, price, available, rebuy_after_days in zip(*columns, strict=True)
        ]

    def compact(self, kind: Kind, day: date, *, committed: Mapping[int, int]) -> int:
        """Merge a day's files into one per partition; return how many files there are fewer.

        Args:
            kind: events or states.
            day: a receipt day.
            committed: per partition, the offset up to which files are final (committed and no longer to be discarded);
                files beyond it are left alone.
        """
        with self._locked(kind):
            before = list_files(self.root / kind, day=day)
            final = [file for file in before if file.next <= committed.get(file.partition, 0)]
            for partition in {file.partition for file in final}:
                self._merge(kind, [file for file in final if file.partition == partition])
            after = list_files(self.root / kind, day=day)
        return len(before) - len(after)

    def _merge(self, kind: Kind, files: list[LakeFile]) -> None:
        parts = counting(files)
        first, last = parts[0], parts[-1]
        merged = LakeFile(first.folder, first.day, first.partition, first.first, last.next)
        if len(parts) > 1:
            schema = _SCHEMAS[kind]
            with (
                replacing(merged.path) as temporary,
                pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
            ):
                for table in _gathered(parts, schema):
                    writer.write_table(table)
        _remove([file for file in files if file != merged])

    def _select(self, kind: Kind, where: Any, columns: Sequence[str] | None) -> pa.Table:
        names = None if columns is None else list(columns)
        return self.read_files(
            kind, lambda paths: _dataset(paths, _SCHEMAS[kind]).to_table(columns=names, filter=where)
        )

    def read_files(self, kind: Kind, read: Callable[[list[Path]], Result]) -> Result:
        """Read the files that count; once more if one was merged away between listing and opening."""
        for _ in range(_READ_TRIES):
            try:
                return read(self.files(kind))
            except FileNotFoundError:
                continue
        raise Unavailable(f"{self.root / kind}: files kept vanishing while they were read; try again")

    def _locked(self, kind: str) -> OwnerLock:
        return OwnerLock(self.root / kind / ".lock", timeout_s=_LOCK_TIMEOUT_S)


def _dataset(paths: Sequence[Path], schema: pa.Schema) -> Any:
    return ds.dataset([str(path) for path in paths] if paths else schema.empty_table(), schema=schema)


def interactions_of(paths: Sequence[Path], *, since_ms: int | None, until_ms: int | None) -> pa.Table:
    """Return one row per line of the events in these files, of schema INTERACTIONS: the share of one reader of many."""
    about_items = pc.field("interaction").is_valid()
    inside = _interval("events", since_ms, until_ms)
    where = about_items if inside is None else inside & about_items
    columns = ["person", "interaction", "lines", "at_ms"]
    batches = _dataset(paths, EVENTS).to_batches(columns=columns, filter=where)
    return pa.Table.from_batches(map(interactions_batch, batches), schema=INTERACTIONS)


def _interval(kind: Kind, since_ms: int | None, until_ms: int | None) -> Any:
    """Return the condition that Parquet's statistics can answer for whole row groups; None for all time."""
    time = _TIMES[kind]
    if since_ms is None:
        return None if until_ms is None else time < until_ms
    return time >= since_ms if until_ms is None else (time >= since_ms) & (time < until_ms)


def _gathered(files: Iterable[LakeFile], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows of ``files`` in order, in tables of about ``_MERGE_BYTES``."""
    gathered: list[pa.Table] = []
    for file in files:
        gathered.append(pq.read_table(file.path, schema=schema))
        if sum(table.nbytes for table in gathered) >= _MERGE_BYTES:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def _remove(files: Sequence[LakeFile]) -> None:
    for file in files:
        file.path.unlink(missing_ok=True)
    for folder in {file.path.parent for file in files}:
        sync(folder)
