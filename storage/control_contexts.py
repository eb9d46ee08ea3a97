"""The control store's part for serving contexts: what decisions were made with, so that they can be made again."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, Column, String, Table, select

from bespoke.clock import to_ms
from bespoke.errors import NotFound
from storage.control_tables import ControlPart, metadata
from storage.sql import reading, upsert, writing

_DIGITS = 16

serving_contexts = Table(
    "serving_contexts",
    metadata,
    Column("fingerprint", String, primary_key=True),
    Column("body", JSON, nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    comment="Settings, rules and model versions that decisions were made with; a decision names the fingerprint.",
)


class ServingContexts(ControlPart):
    """Whatever decisions follow from besides the request, the person and the live catalog."""

    def save_context(self, body: Mapping[str, Any], *, at: datetime) -> str:
        """Keep ``body``, a JSON object, for good; return its fingerprint. Keeping it again changes nothing."""
        fingerprint = context_fingerprint(body)
        row = {"fingerprint": fingerprint, "body": dict(body), "first_ms": to_ms(at)}
        with writing(self._engine) as connection:
            connection.execute(upsert(self._engine, serving_contexts, update=[]), row)
        return fingerprint

    def context(self, fingerprint: str) -> dict[str, Any]:
        """Return what was kept under ``fingerprint``.

        Raises:
            NotFound: nothing was.
        """
        query = select(serving_contexts.c.body).where(serving_contexts.c.fingerprint == fingerprint)
        with reading(self._engine) as connection:
            body = connection.scalar(query)
        if body is None:
            raise NotFound(f"serving context {fingerprint!r}: it was never kept, so its decisions cannot be made again")
        return dict(body)


def context_fingerprint(body: Mapping[str, Any]) -> str:
    """Return what names a context: equal ones have equal names, in whatever order their keys stand.

    >>> context_fingerprint({"a": 1, "b": 2}) == context_fingerprint({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGITS]
