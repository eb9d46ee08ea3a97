"""Bulk import: somebody's files through the same checks as HTTP into the event log, and on to profiles and the lake."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO

import orjson

from bespoke.clock import from_ms, to_ms
from bespoke.errors import BespokeError, InvalidEvent
from bespoke.events import encode_event, parse_event
from ingestion.mapping import Mapping
from ingestion.messages import Raw, catalog_items, count_messages, event_messages, trait_messages
from storage.eventlog import open_event_log
from storage.eventlog.base import EventLog, Message
from storage.lake import Lake
from storage.profiles import ProfileStore
from storage.settings import Settings

APPEND_AT_ONCE = 1_000
WORKER_BATCH = 2_000
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: messages read, and of those in the log, how many are applied."""

    total: int
    read: int = 0
    applied: int = 0


@dataclass(slots=True)
class ImportResult:
    """What an import came to."""

    accepted: int = 0
    rejected: int = 0
    lines: int = 0
    """Lines (products) of the accepted messages."""
    items: int = 0
    seconds: float = 0.0
    rejects_file: Path | None = None
    rejected_by_field: dict[str, int] = field(default_factory=dict)


def import_files(
    given: Path,
    mapping: Mapping,
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ImportResult:
    """Bring ``given``, a file or a folder, in as ``mapping`` says; return when all of it is applied.

    Where no processor runs, one is started for the time of the import. Repeating an import changes nothing: messages
    keep their ids.

    Raises:
        ConfigError: a file or a column that the mapping names is missing; nothing has been taken then.
        BespokeError: the processor ended before all was applied; what was accepted stays in the log.
    """
    started = time.perf_counter()
    result = ImportResult()
    if mapping.catalog is not None:
        items = catalog_items(given, mapping.catalog)
        # A catalog names no times: in a replay it describes the items as they always were.
        Lake(settings.lake_dir).write_items(items, at_ms=0 if mapping.replay else to_ms(datetime.now(UTC)))
        result.items = len(items)
    state = Progress(total=count_messages(given, mapping.events) if mapping.events else 0)
    log = open_event_log(settings.log_path)
    try:
        raw = _raw_messages(given, mapping, since=since, until=until)
        with _Applying(settings, log) as applying:
            for read in _append(raw, log, mapping, result, _rejects_path(settings, mapping)):
                state = replace(state, read=read, applied=applying.applied())
                progress(state)
            for applied in applying.wait():
                progress(replace(state, applied=applied))
    finally:
        log.close()
    result.seconds = time.perf_counter() - started
    return result


def _raw_messages(given: Path, mapping: Mapping, *, since: datetime | None, until: datetime | None) -> Iterator[Raw]:
    since_ms = to_ms(since) if since else None
    events: Iterator[Raw] = iter(())
    if mapping.events is not None:
        until_ms = to_ms(until) if until else None
        events = event_messages(given, mapping.events, name=mapping.name, since_ms=since_ms, until_ms=until_ms)
    first = next(events, None)
    if mapping.traits is not None:
        at_ms = first.at_ms if first and first.at_ms >= 0 else to_ms(datetime.now(UTC))
        yield from trait_messages(given, mapping.traits, name=mapping.name, at_ms=at_ms)
    if first is not None:
        yield first
        yield from events


def _append(raw: Iterable[Raw], log: EventLog, mapping: Mapping, result: ImportResult, rejects: Path) -> Iterator[int]:
    """Check and append; yield how many messages have been read after each append."""
    rejects_file: IO[bytes] | None = None
    raw = iter(raw)
    try:
        while chunk := list(islice(raw, APPEND_AT_ONCE)):
            received_at = datetime.now(UTC)
            good = []
            for one in chunk:
                try:
                    good.append(_message(one, received_at=received_at, replay=mapping.replay))
                    result.lines += one.lines
                except InvalidEvent as error:
                    if rejects_file is None:
                        rejects.parent.mkdir(parents=True, exist_ok=True)
                        rejects_file, result.rejects_file = rejects.open("wb"), rejects
                    rejects_file.write(_reject(one, error))
                    by_field = result.rejected_by_field
                    by_field[error.field] = by_field.get(error.field, 0) + 1
            log.append(good)
            result.accepted += len(good)
            result.rejected += len(chunk) - len(good)
            yield result.accepted + result.rejected
    finally:
        if rejects_file is not None:
            rejects_file.close()


def _message(raw: Raw, *, received_at: datetime, replay: bool) -> Message:
    if raw.at_ms < 0:
        raise InvalidEvent("timestamp", raw.message.get("timestamp"), "a time that can be read, after 1970")
    event = parse_event(raw.message, received_at=from_ms(raw.at_ms) if replay else received_at, replay=True)
    return Message(
        key=event.person, message_id=event.message_id, received_ms=event.received_ms, payload=encode_event(event)
    )


def _reject(raw: Raw, error: InvalidEvent) -> bytes:
    row = {"field": error.field, "value": error.value, "allowed": error.allowed, "message": raw.message}
    return orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _rejects_path(settings: Settings, mapping: Mapping) -> Path:
    return settings.home / "rejects" / f"{mapping.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"


class _Applying:
    """A processor beside the import: its own process, which ends by itself where another one already runs."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self._log = log
        self._profiles = ProfileStore(settings.profiles_url)
        self._before = self._applied()
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "ingestion.worker", "--until-idle", "--batch", str(WORKER_BATCH)],
            stdin=subprocess.PIPE,
            env=environment(settings),
        )

    def __enter__(self) -> "_Applying":
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker.stdin is not None:
            self._worker.stdin.close()
        self._worker.wait()
        self._profiles.close()

    def applied(self) -> int:
        """Return how many messages have been applied since the import began."""
        return self._applied() - self._before

    def wait(self) -> Iterator[int]:
        """Yield the count while the rest is being applied."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        wanted = {partition: self._log.end(partition) for partition in range(self._log.partitions)}
        while any(self._profiles.committed(partition) < end for partition, end in wanted.items()):
            yield self.applied()
            if self._worker.poll() not in (None, 0, OTHER_PROCESSOR):
                raise BespokeError("the processor ended before all was applied; run the import again: it goes on")
            time.sleep(POLL_S)
        self._worker.wait()
        yield self.applied()

    def _applied(self) -> int:
        return sum(self._profiles.committed(partition) for partition in range(self._log.partitions))


OTHER_PROCESSOR = 3
"""The worker's exit status where another process holds the partitions."""


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which another process opens this installation."""
    return {**os.environ, "BESPOKE_HOME": str(settings.home.resolve())}
