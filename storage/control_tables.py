"""The tables of the control store, and what its parts share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    select,
)

from bespoke.clock import from_ms, to_ms
from storage.sql import reading

metadata = MetaData()

_ID = BigInteger().with_variant(Integer, "sqlite")

keys = Table(
    "keys",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("secret_hash", String, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    comment="API keys. Of a secret only its SHA-256: it is 256 random bits, so a slow hash would add nothing.",
)

key_limits = Table(
    "key_limits",
    metadata,
    Column("key_id", String, ForeignKey("keys.key_id"), primary_key=True),
    Column("expires_ms", BigInteger),
    Column("rate", Float),
    Column("burst", Integer),
    comment="What some keys are bound by. Beside keys, so that stores made before there were limits go on as they are.",
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", JSON(none_as_null=True)),
    Column("by", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("returns_to", _ID),
    comment="Pointers and experiments: the newest row of a kind and name is in force, the others are its history.",
    sqlite_autoincrement=True,
)
Index("decisions_of_name", decisions.c.kind, decisions.c.name, decisions.c.id)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("kind", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("by", String, nullable=False),
    Column("enqueued_ms", BigInteger, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("worker", String),
    Column("lease_until_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("result", JSON(none_as_null=True)),
    Column("error", String),
    sqlite_autoincrement=True,
)

segment_sizes = Table(
    "segment_sizes",
    metadata,
    Column("segment", String, primary_key=True),
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("members", BigInteger, nullable=False),
)

subscribers = Table(
    "subscribers",
    metadata,
    Column("name", String, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
    comment="Who was told of transitions before: a new one hears only of those that come.",
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("subscriber", String, nullable=False),
    Column("message_id", String, nullable=False),
    Column("person", String, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_ms", BigInteger),
    Column("error", String, nullable=False),
    UniqueConstraint("subscriber", "message_id"),
    comment="Transitions that a subscriber did not take yet; next_ms is NULL where they were given up.",
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False, index=True),
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, and when."""

    at: datetime
    by: str
    action: str
    """A noun and a verb, such as ``pointer.set``."""
    subject: str
    details: Mapping[str, Any]


class ControlPart:
    """A part of the control store: it shares the database and the audit trail with the others."""

    _engine: Engine

    def audit_trail(self, *, subject: str | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest audit entries, newest first; of one subject or of all."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        return [AuditEntry(from_ms(row.at_ms), row.by, row.action, row.subject, row.details) for row in rows]


def record_in(
    connection: Connection, action: str, subject: str, *, by: str, at: datetime, details: Mapping[str, Any]
) -> None:
    """Add an audit entry in the transaction of the deed, so that neither stands without the other."""
    entry = {"at_ms": to_ms(at), "by": by, "action": action, "subject": subject, "details": dict(details)}
    connection.execute(audit.insert(), entry)
