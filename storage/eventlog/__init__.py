"""The event log: what was collected, in order, kept durably."""

from pathlib import Path

from bespoke.errors import ConfigError
from storage.eventlog.base import EventLog, Message, Position, Record, partition_of
from storage.eventlog.sqlite import SqliteEventLog

__all__ = ["EventLog", "Message", "Position", "Record", "open_event_log", "partition_of"]


def open_event_log(url_or_path: str | Path, partitions: int | None = None) -> EventLog:
    """Open an event log by its address: a path, ``sqlite:///PATH``, or ``kafka://HOST:PORT/TOPIC``.

    Args:
        url_or_path: where the log is.
        partitions: how many a new log gets (4 if None); an existing log must have that many.

    Raises:
        ConfigError: no engine knows such an address, or the log has another number of partitions.
        Unavailable: the log cannot be reached.
    """
    if str(url_or_path).startswith("kafka://"):
        # Imported where it is used: the embedded log needs no client library.
        from storage.eventlog.kafka import KafkaEventLog

        return KafkaEventLog(str(url_or_path), partitions=partitions)
    scheme, separator, rest = str(url_or_path).partition(":///")
    if not separator:
        return SqliteEventLog(Path(url_or_path), partitions=partitions)
    if scheme != "sqlite":
        raise ConfigError(f"event log: got {url_or_path!r}, expected a path, sqlite:///PATH or kafka://HOST:PORT/TOPIC")
    return SqliteEventLog(Path(rest), partitions=partitions)
