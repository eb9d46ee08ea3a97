"""What a process logs: one JSON object a line, with the request's id and route, and never what a client sent.

Paths, bodies and messages of exceptions may hold personal data. So a route stands for the path, and an exception is
known by its type and the place where it was raised.
"""

import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

LOGGERS = ("bespoke", "storage", "serving")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered; set once, at the edge."""
FIELDS = ("method", "route", "status", "duration_ms")
"""What a record may carry in ``extra``."""


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **{field: getattr(record, field) for field in FIELDS if hasattr(record, field)},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["at"] = place_of(record.exc_info[1])
        return orjson.dumps({name: value for name, value in line.items() if value is not None}, default=str).decode()


def configure_logs(level: int = logging.INFO) -> None:
    """Have everything of ours that this process logs written to standard error as JSON lines; twice is once."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def place_of(error: BaseException) -> str:
    """Return where ``error`` was raised, without its message, which may hold ids."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
