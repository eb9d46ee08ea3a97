"""The control store's part for the live catalog: what was said of items while the system runs, and what was before.

Changes are numbered by ``seq``, one by one, in the order in which they were committed. A reader that asks for what
came after the last number it saw misses nothing, with any number of writers.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Connection, Index, Row, String, Table, delete, func, select

from bespoke.catalog import Item
from bespoke.clock import DAY_MS, to_ms
from bespoke.events import ItemId
from storage.control_tables import ControlPart, metadata
from storage.item_changes import ItemChange, LiveItem, gathered
from storage.sql import reading, take_turns, upsert, writing

KEEP_MS = 400 * DAY_MS
"""What an item was said to be is kept for so long after it was said to be something else."""
IMPORT = "import"
_TURN = "catalog_items"
_IDS_PER_QUERY = 1_000

catalog_items = Table(
    "catalog_items",
    metadata,
    Column("item_id", String, primary_key=True),
    Column("seq", BigInteger, nullable=False, unique=True),
    Column("body", JSON, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    comment="What is in force of each item that was changed live.",
)

catalog_history = Table(
    "catalog_history",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", String, nullable=False),
    Column("body", JSON, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("until_seq", BigInteger, nullable=False, index=True),
    Column("until_ms", BigInteger, nullable=False, index=True),
    comment="What was in force before: from seq up to, but without, until_seq.",
)
Index("catalog_history_of_item", catalog_history.c.item_id, catalog_history.c.seq)

_CURRENT = ("item_id", "seq", "body", "whole", "changed_ms", "by")


class CatalogItems(ControlPart):
    """Items that were described or changed while the system runs."""

    def change_items(self, changes: Sequence[ItemChange], *, by: str, at: datetime) -> int:
        """Put ``changes`` in force, one after the other, all of them or none; return the catalog's number then.

        What says nothing new is passed over: an item that was described so already stays described so since then.

        Args:
            changes: of any items; several of one item count in their order.
            by: who says it, such as the id of an API key.
            at: when it is said.
        """
        return self._change(gathered(changes), by=by, at_ms=to_ms(at), known_only=False)

    def renew_items(self, items: Iterable[Item], *, at: datetime, by: str = IMPORT) -> int:
        """Put the descriptions of a newer catalog file in the place of what was said live of the same items before.

        Items of which nothing was said live are left to the lake, which has the file; what was said of an item after
        ``at`` stays.
        """
        changes = {item.item_id: ItemChange.of(item) for item in items}
        return self._change(changes, by=by, at_ms=to_ms(at), known_only=True)

    def catalog_seq(self) -> int:
        """Return the number of the last change; 0 where there was none."""
        with reading(self._engine) as connection:
            return _last_seq(connection)

    def items_since(self, seq: int) -> tuple[list[LiveItem], int]:
        """Return what is in force of the items that changed after ``seq``, in the order of change.

        Returns:
            The items, and the catalog's number: what to ask with next time.
        """
        columns = catalog_items.c
        with reading(self._engine) as connection:
            found = connection.execute(select(catalog_items).where(columns.seq > seq).order_by(columns.seq))
            items = [_live_item(row) for row in found]
        return items, max(seq, items[-1].seq if items else seq)

    def items_at(self, seq: int) -> list[LiveItem]:
        """Return what was in force when the catalog's number was ``seq``; what is forgotten by now is left out."""
        now, past = catalog_items.c, catalog_history.c
        return self._found(now.seq <= seq, (past.seq <= seq) & (past.until_seq > seq))

    def items_before(self, at_ms: int) -> list[LiveItem]:
        """Return what was in force just before the time ``at_ms``."""
        now, past = catalog_items.c, catalog_history.c
        return self._found(now.changed_ms < at_ms, (past.changed_ms < at_ms) & (past.until_ms >= at_ms))

    def item_history(self, item_id: ItemId) -> list[LiveItem]:
        """Return everything that was in force of an item, oldest first."""
        mine = catalog_items.c.item_id == item_id
        return self._found(mine, catalog_history.c.item_id == item_id)

    def _found(self, in_force: Any, before: Any) -> list[LiveItem]:
        past = select(*(catalog_history.c[name] for name in _CURRENT)).where(before)
        with reading(self._engine) as connection:
            rows = [*connection.execute(select(catalog_items).where(in_force)), *connection.execute(past)]
        return sorted(map(_live_item, rows), key=lambda one: one.seq)

    def _change(self, changes: dict[ItemId, ItemChange], *, by: str, at_ms: int, known_only: bool) -> int:
        with writing(self._engine) as connection:
            # From here to the commit nobody else numbers changes, so numbers become visible in their order.
            take_turns(connection, _TURN)
            seq = _last_seq(connection)
            before = dict(_rows_of(connection, changes))
            rows, replaced = [], []
            for item_id, change in changes.items():
                earlier = before.get(item_id)
                if known_only and (earlier is None or earlier.changed_ms > at_ms):
                    continue
                now = change.after(None if earlier is None else earlier.change)
                if earlier is not None and now == earlier.change:
                    continue
                seq += 1
                # Clocks may go back; the order of changes does not.
                changed_ms = at_ms if earlier is None else max(at_ms, earlier.changed_ms)
                rows.append(_row(LiveItem(now, seq, changed_ms, by)))
                if earlier is not None:
                    replaced.append({**_row(earlier), "until_seq": seq, "until_ms": changed_ms})
            self._write(connection, rows, replaced, at_ms=at_ms)
        return seq

    def _write(self, connection: Connection, rows: list[Any], replaced: list[Any], *, at_ms: int) -> None:
        if replaced:
            connection.execute(catalog_history.insert(), replaced)
        if rows:
            connection.execute(upsert(self._engine, catalog_items, update=_CURRENT[1:]), rows)
            connection.execute(delete(catalog_history).where(catalog_history.c.until_ms < at_ms - KEEP_MS))


def _last_seq(connection: Connection) -> int:
    # The last change of all is in force: it can only be replaced by a later one.
    return int(connection.scalar(select(func.max(catalog_items.c.seq))) or 0)


def _rows_of(connection: Connection, ids: Iterable[ItemId]) -> Iterator[tuple[ItemId, LiveItem]]:
    left = iter(ids)
    while some := list(islice(left, _IDS_PER_QUERY)):
        for row in connection.execute(select(catalog_items).where(catalog_items.c.item_id.in_(some))):
            yield row.item_id, _live_item(row)


def _row(one: LiveItem) -> dict[str, Any]:
    change = one.change
    values = (change.item_id, one.seq, dict(change.fields), change.whole, one.changed_ms, one.by)
    return dict(zip(_CURRENT, values, strict=True))


def _live_item(row: Row[*tuple[Any, ...]]) -> LiveItem:
    return LiveItem(ItemChange(row.item_id, row.body, row.whole), row.seq, row.changed_ms, row.by)
