"""Log lines are written later, in order, and none stays behind."""

import io
import logging
import threading
from collections.abc import Iterator

import pytest

from serving.logs import LaterLines


class Stream(io.StringIO):
    """Counts how often something was written."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Stream:
    """Return where lines go."""
    return Stream()


@pytest.fixture
def logger(stream: Stream) -> Iterator[logging.Logger]:
    """Return a logger whose lines are written an hour later, unless something asks for them."""
    handler, logger = LaterLines(stream, every_s=3600), logging.Logger("test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_lines_are_written_together_at_the_end(logger: logging.Logger, stream: Stream) -> None:
    for number in range(3):
        logger.info("line %d", number)
    assert stream.getvalue() == ""
    logger.handlers[0].close()
    assert (stream.getvalue(), stream.writes) == ("line 0\nline 1\nline 2\n", 1)


def test_warning_is_written_at_once_with_what_came_before_it(logger: logging.Logger, stream: Stream) -> None:
    logger.info("before")
    logger.warning("now")
    assert stream.getvalue() == "before\nnow\n"


def test_line_after_the_end_is_written_at_once(logger: logging.Logger, stream: Stream) -> None:
    logger.handlers[0].close()
    logger.info("late")
    assert stream.getvalue() == "late\n"


def test_lines_come_out_by_themselves() -> None:
    written = threading.Event()

    class Told(Stream):
        def flush(self) -> None:
            if self.getvalue() == "soon\n":
                written.set()

    handler = LaterLines(Told(), every_s=0.001)
    handler.handle(logging.makeLogRecord({"msg": "soon", "levelno": logging.INFO}))
    assert written.wait(10)
    handler.close()


def test_stream_that_is_gone_fails_nobody(logger: logging.Logger, stream: Stream) -> None:
    stream.close()
    logger.warning("nobody reads")
