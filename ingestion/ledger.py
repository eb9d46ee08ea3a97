"""The ledger of imports: which files came in through which mapping, so that nobody counts a year of sales twice.

The log recognises repeated messageIds for some weeks only; this remembers finished imports for good, one JSON object a
line in ``imports.jsonl``.
"""

import hashlib
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from bespoke.clock import utc
from bespoke.errors import ConfigError, shown
from ingestion.files import Files
from ingestion.mapping import Mapping

FILE = "imports.jsonl"

Entry = dict[str, Any]
"""What makes an import the same one: mapping and its content, each file's content, since and until."""


class Ledger:
    """The finished imports of one installation."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE

    def check(self, entry: Entry) -> None:
        """Let an import pass that has not finished before.

        Raises:
            ConfigError: it has; says when.
        """
        for line in self._lines():
            if entry.items() <= line.items():
                raise ConfigError(
                    f"{', '.join(entry['files'])} came in through {entry['mapping']!r} at {line.get('at')} already; "
                    "use --again to import the same once more (events older than 30 days would then count twice)"
                )

    def add(self, entry: Entry, *, at: datetime, **result: int) -> None:
        """Remember a finished import; on disk when this returns."""
        line = orjson.dumps({**entry, "at": at.isoformat(timespec="seconds"), **result})
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[Entry]:
        if not self._path.is_file():
            return
        for number, line in enumerate(self._path.read_bytes().splitlines(), start=1):
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                entry = None
            if not isinstance(entry, dict):
                raise ConfigError(f"{self._path}: line {number} is no JSON object: {shown(line)}; take that line out")
            yield entry


def entry_of(mapping: Mapping, files: Files, *, since: datetime | None, until: datetime | None) -> Entry:
    """Return what this import is known by."""
    return {
        "mapping": mapping.name,
        "mapping_sha256": hashlib.sha256(mapping.model_dump_json().encode()).hexdigest(),
        "files": {path.name: _sha256(path) for path in files.all()},
        "since": utc(since).isoformat() if since else None,
        "until": utc(until).isoformat() if until else None,
    }


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
