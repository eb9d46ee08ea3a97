"""Bulk import: somebody's files through the same checks as HTTP into the event log, and on to profiles and the lake."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import IO

import orjson

from bespoke.catalog import Item
from bespoke.clock import from_ms, to_ms
from bespoke.errors import InvalidEvent
from bespoke.parsing import encode_event, parse_event
from ingestion.applying import Applying
from ingestion.files import Files, locate
from ingestion.ledger import Ledger, entry_of
from ingestion.mapping import Mapping
from ingestion.messages import Raw, catalog_items, count_messages, event_messages, trait_messages
from storage.control import ControlStore
from storage.eventlog import open_event_log
from storage.eventlog.base import EventLog, Message
from storage.lake import Lake
from storage.settings import Settings

APPEND_AT_ONCE = 1_000


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
    again: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ImportResult:
    """Bring ``given``, a file or a folder, in as ``mapping`` says; return when all of it is applied.

    Where no processor runs, one is started for the time of the import. An import that did not finish can be run again:
    messages keep their ids, so what is in already changes nothing.

    Args:
        given: the file, or the folder that holds the files which the mapping names.
        mapping: how rows become messages and items.
        settings: the installation.
        since: only messages from this time on.
        until: only messages before this time.
        again: import even what the ledger says was imported; messageIds older than 30 days count anew then.
        progress: called now and then.

    Raises:
        ConfigError: a file or a column that the mapping names is missing, or the same import finished before; nothing
            has been taken then.
        BespokeError: the processor ended before all was applied; what was accepted stays in the log.
    """
    started = time.perf_counter()
    files, ledger = locate(given, mapping), Ledger(settings.home)
    entry = entry_of(mapping, files, since=since, until=until)
    if not again:
        ledger.check(entry)
    result = ImportResult()
    items = catalog_items(files.catalog, mapping.catalog) if files.catalog and mapping.catalog else []
    raw = _raw_messages(files, mapping, since=since, until=until)
    total = count_messages(files.events, mapping.events) if files.events and mapping.events else 0
    if items:
        _describe(items, mapping, settings)
        result.items = len({item.item_id for item in items})
    _take(raw, mapping, settings, result, lambda read, applied: progress(Progress(total, read, applied)))
    result.seconds = time.perf_counter() - started
    if result.accepted or result.items:
        ledger.add(entry, at=datetime.now(UTC), accepted=result.accepted, rejected=result.rejected, items=result.items)
    return result


def _describe(items: Sequence[Item], mapping: Mapping, settings: Settings) -> None:
    """Write the catalog file to the lake; of what was changed live before, the file is the newer word."""
    # A catalog names no times: in a replay it describes the items as they always were.
    at = from_ms(0) if mapping.replay else datetime.now(UTC)
    Lake(settings.lake_dir).write_items(items, at_ms=to_ms(at))
    if not mapping.replay:
        with ControlStore(settings.control_url) as control:
            control.renew_items(items, at=at)


def _raw_messages(files: Files, mapping: Mapping, *, since: datetime | None, until: datetime | None) -> Iterator[Raw]:
    """Return the people's traits, then the events; the files have been read and found good when this returns."""
    events: Iterator[Raw] = iter(())
    if files.events and mapping.events:
        since_ms, until_ms = (to_ms(at) if at else None for at in (since, until))
        events = event_messages(files.events, mapping.events, name=mapping.name, since_ms=since_ms, until_ms=until_ms)
    first = next(events, None)
    traits: Iterator[Raw] = iter(())
    if files.traits and mapping.traits:
        past = mapping.replay and first is not None and first.at_ms >= 0
        at_ms = first.at_ms if first and past else to_ms(datetime.now(UTC))
        traits = trait_messages(files.traits, mapping.traits, name=mapping.name, at_ms=at_ms)
    return chain(traits, () if first is None else (first,), events)


def _take(
    raw: Iterable[Raw], mapping: Mapping, settings: Settings, result: ImportResult, told: Callable[[int, int], None]
) -> None:
    """Append everything to the log and return when it is applied."""
    log = open_event_log(settings.log_url)
    try:
        with Applying(settings, log) as applying:
            for _ in _append(raw, log, mapping, result, _rejects_path(settings, mapping)):
                told(result.accepted + result.rejected, applying.applied())
            for applied in applying.wait():
                told(result.accepted + result.rejected, applied)
    finally:
        log.close()


def _append(raw: Iterable[Raw], log: EventLog, mapping: Mapping, result: ImportResult, rejects: Path) -> Iterator[None]:
    """Check and append, and count in ``result``; yield after each append."""
    rejects_file: IO[bytes] | None = None
    raw = iter(raw)
    try:
        while chunk := list(islice(raw, APPEND_AT_ONCE)):
            received_at = datetime.now(UTC)
            good = []
            for one in chunk:
                try:
                    good.append(_message(one, mapping, received_at=received_at))
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
            yield
    finally:
        if rejects_file is not None:
            rejects_file.close()


def _message(raw: Raw, mapping: Mapping, *, received_at: datetime) -> Message:
    if raw.problem is not None:
        raise raw.problem
    received_at = from_ms(raw.at_ms) if mapping.replay else received_at
    event = parse_event(raw.message, received_at=received_at, replay=True, source=f"file:{mapping.name}")
    return Message(
        key=event.person, message_id=event.message_id, received_ms=event.received_ms, payload=encode_event(event)
    )


def _reject(raw: Raw, error: InvalidEvent) -> bytes:
    row = {"field": error.field, "value": error.value, "allowed": error.allowed, "message": raw.message}
    return orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _rejects_path(settings: Settings, mapping: Mapping) -> Path:
    return settings.home / "rejects" / f"{mapping.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"
