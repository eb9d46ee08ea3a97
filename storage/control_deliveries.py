"""The control store's part for deliveries: what a subscriber could not take yet, and what was given up."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update

from bespoke.clock import to_ms
from storage.control_tables import ControlPart, deliveries, subscribers
from storage.sql import reading, take_turns, upsert, writing


@dataclass(frozen=True, slots=True)
class Delivery:
    """One transition on its way to one subscriber."""

    subscriber: str
    message_id: str
    person: str
    payload: bytes
    """The event, as the log keeps it."""
    attempts: int
    next_ms: int | None
    """When to try again; None: given up."""
    error: str


class Deliveries(ControlPart):
    """Waiting and dead deliveries, and which subscribers are known."""

    def known_subscriber(self, name: str, *, at: datetime) -> bool:
        """Return whether the subscriber was seen before; from now on it was."""
        known = select(func.count()).where(subscribers.c.name == name)
        with writing(self._engine) as connection:
            before = bool(connection.scalar(known))
            if not before:
                row = {"name": name, "since_ms": to_ms(at)}
                connection.execute(upsert(self._engine, subscribers, update=[]), row)
        return before

    def put_off(self, failed: Sequence[Delivery]) -> None:
        """Keep deliveries for later, or as dead; one that is kept already is set to what is given."""
        columns = deliveries.c
        with writing(self._engine) as connection:
            for subscriber in sorted({one.subscriber for one in failed}):
                take_turns(connection, f"deliveries:{subscriber}")
            for one in failed:
                again = {"attempts": one.attempts, "next_ms": one.next_ms, "error": one.error}
                mine = (columns.subscriber == one.subscriber) & (columns.message_id == one.message_id)
                if not connection.execute(update(deliveries).where(mine).values(again)).rowcount:
                    connection.execute(deliveries.insert(), asdict(one))

    def put_off_people(self, subscriber: str) -> set[str]:
        """Return the people of whom something waits: what follows of them waits behind it."""
        columns = deliveries.c
        query = select(columns.person).where(columns.subscriber == subscriber, columns.next_ms.is_not(None)).distinct()
        with reading(self._engine) as connection:
            return set(connection.scalars(query))

    def due_deliveries(self, subscriber: str, *, now: datetime, limit: int = 100) -> list[Delivery]:
        """Return what is to be tried again by now: of each person only the first that waits."""
        columns = deliveries.c
        waits = (columns.subscriber == subscriber) & columns.next_ms.is_not(None)
        first = select(func.min(columns.id)).where(waits).group_by(columns.person)
        query = select(deliveries).where(columns.id.in_(first), columns.next_ms <= to_ms(now))
        with reading(self._engine) as connection:
            return [_delivery(row) for row in connection.execute(query.order_by(columns.id).limit(limit))]

    def delivered(self, subscriber: str, message_id: str) -> None:
        """Forget a delivery that was taken."""
        columns = deliveries.c
        with writing(self._engine) as connection:
            connection.execute(
                delete(deliveries).where(columns.subscriber == subscriber, columns.message_id == message_id)
            )

    def undelivered(self, *, subscriber: str | None = None, dead: bool = False, limit: int = 1_000) -> list[Delivery]:
        """Return what waits, or what was given up, oldest first."""
        columns = deliveries.c
        query = select(deliveries).where(columns.next_ms.is_(None) if dead else columns.next_ms.is_not(None))
        if subscriber is not None:
            query = query.where(columns.subscriber == subscriber)
        with reading(self._engine) as connection:
            return [_delivery(row) for row in connection.execute(query.order_by(columns.id).limit(limit))]

    def revive(self, *, subscriber: str | None = None, at: datetime) -> int:
        """Have what was given up tried again now; return how many."""
        columns = deliveries.c
        statement = update(deliveries).where(columns.next_ms.is_(None)).values(next_ms=to_ms(at), attempts=0)
        if subscriber is not None:
            statement = statement.where(columns.subscriber == subscriber)
        with writing(self._engine) as connection:
            return connection.execute(statement).rowcount


def _delivery(row: Row[*tuple[Any, ...]]) -> Delivery:
    return Delivery(row.subscriber, row.message_id, row.person, row.payload, row.attempts, row.next_ms, row.error)
