"""The control store: keys, pointers, experiments, jobs and the audit trail of one installation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from storage.control_contexts import ServingContexts
from storage.control_decisions import Decision, Decisions
from storage.control_deliveries import Deliveries, Delivery
from storage.control_items import CatalogItems
from storage.control_jobs import Job, Jobs, JobState
from storage.control_keys import KeyInfo, Keys, Scope
from storage.control_schedule import Schedule
from storage.control_segments import SegmentSizes
from storage.control_tables import AuditEntry, metadata, record_in
from storage.control_traffic import TrafficHealth
from storage.control_watch import Alert, Observation, Watch
from storage.sql import open_engine, writing
from storage.sqlite import BUSY_TIMEOUT_S

__all__ = [
    "Alert",
    "AuditEntry",
    "ControlStore",
    "Decision",
    "Delivery",
    "Job",
    "JobState",
    "KeyInfo",
    "Observation",
    "Scope",
]


class ControlStore(
    Keys,
    Decisions,
    Jobs,
    Schedule,
    SegmentSizes,
    Deliveries,
    CatalogItems,
    ServingContexts,
    TrafficHealth,
    Watch,
):
    """Files in config/ declare; this holds what is in force, and its history. Threads and processes may share it.

    ``with ControlStore(url) as control: ...`` closes it at the end.
    """

    def __init__(self, url: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the store, creating its tables where they are missing.

        Args:
            url: an SQLAlchemy address such as ``sqlite:///var/control.db``.
            busy_timeout_s: how long a write waits for a writer in another process.

        Raises:
            ConfigError: no engine is known for such an address.
            Unavailable: the database cannot be reached.
        """
        self._engine = open_engine(url, metadata, busy_timeout_s=busy_timeout_s)

    def record(
        self, action: str, subject: str, *, by: str, at: datetime, details: Mapping[str, Any] | None = None
    ) -> None:
        """Add an entry to the audit trail; what this store itself changes is recorded without asking."""
        with writing(self._engine) as connection:
            record_in(connection, action, subject, by=by, at=at, details=details or {})

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> "ControlStore":
        """Use the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the database."""
        self.close()
