"""One error for every way in which Feast and the online stores can be out of reach."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bespoke.errors import Unavailable


@contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Turn what Feast and its stores raise when they cannot be reached into :class:`Unavailable`."""
    try:
        yield
    except _failures() as error:
        raise Unavailable(f"features: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    from google.protobuf.message import DecodeError
    from psycopg import Error as PostgresError
    from redis.exceptions import RedisError

    # To import Feast takes seconds; what it raises, only who has imported it can see.
    feast = sys.modules.get("feast.errors")
    of_feast = () if feast is None else (feast.FeastError,)
    return (sqlite3.Error, RedisError, PostgresError, DecodeError, OSError, *of_feast)
