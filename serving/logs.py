"""What a process logs: one JSON object a line, with the request's id and route, and never what a client sent.

Paths, bodies and messages of exceptions may hold personal data. So a route stands for the path, and an exception is
known by its type and the place where it was raised.
"""

import logging
import sys
import threading
import traceback
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

LOGGERS = ("bespoke", "storage", "serving")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered; set once, at the edge."""
FIELDS = ("method", "route", "status", "duration_ms")
"""What a record may carry in ``extra``."""
WRITE_EVERY_S = 0.1
MAX_WAITING = 10_000
"""So many lines wait for a stream that takes none; the thread that logs the next one waits for it too."""


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


class LaterLines(logging.Handler):
    """Writes lines in a thread of its own, many at once: to write one costs more than to make it.

    A warning or worse is written before its call returns, with all that came before it, and so is everything at the
    end of the process. A process that is killed loses the lines of the last tenth of a second.
    """

    def __init__(self, stream: TextIO, *, every_s: float = WRITE_EVERY_S) -> None:
        """Write to ``stream``, every ``every_s`` seconds where there is something to write."""
        super().__init__()
        self._stream, self._every_s = stream, every_s
        self._lines: deque[str] = deque()
        self._writing = threading.Lock()
        self._some, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Make the line, in the thread that logs: it tells of the request that is answered there."""
        try:
            self._lines.append(self.format(record) + "\n")
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING or len(self._lines) > MAX_WAITING or self._closing.is_set():
            self.flush()
        elif not self._some.is_set():
            self._some.set()
            # Also after a fork, which takes no thread along.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            lines = "".join([self._lines.popleft() for _ in range(len(self._lines))])
            try:
                self._stream.write(lines)
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads, or the stream is closed: there is nowhere to tell.
                return

    def close(self) -> None:
        """Write what waits and end the thread; lines that come later are written at once."""
        self._closing.set()
        self._some.set()
        self.flush()
        super().close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._closing.wait(self._every_s)
            self._some.clear()
            self.flush()


def configure_logs(level: int = logging.INFO) -> None:
    """Have everything of ours that this process logs written to standard error as JSON lines; twice is once."""
    handler = LaterLines(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for before in logger.handlers:
            before.close()
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def place_of(error: BaseException) -> str:
    """Return where ``error`` was raised, without its message, which may hold ids."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
