"""One error for every way in which Feast and the online stores can be out of reach."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from bespoke.errors import Unavailable


@contextmanager
def unavailable_on_failure() -> Iterator[None]:
    """Turn what Feast and its stores raise when they cannot be reached into :class:`Unavailable`."""
    try:
        yield
    except _failures() as error:
        raise Unavailable(f"features: {error}") from error


@cache
def _failures() -> tuple[type[Exception], ...]:
    from feast.errors import FeastError
    from google.protobuf.message import DecodeError
    from psycopg import Error as PostgresError
    from redis.exceptions import RedisError

    return (sqlite3.Error, RedisError, PostgresError, FeastError, DecodeError, OSError)
