"""What may not come: for everybody by masks that are made once, for one person by a few rows."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from bespoke.catalog import ItemTable
from bespoke.clock import DAY_MS
from bespoke.events import InteractionType, ItemId
from bespoke.expressions import Expression, Value
from bespoke.models.arrays import RowArray
from bespoke.profiles import Recent
from bespoke.recommend.placed import Allowed, BoolArray
from bespoke.recommend.request import Filter, Request
from bespoke.recommend.settings import Pipeline

MASKS_KEPT = 64
"""So many request filters are remembered, the latest ones."""

EXCLUDED = "excluded by the request"
LOOKED_AT = "the item that is looked at"
SEEN = "seen before"
CAPPED = "shown often enough"


class Masks:
    """The masks of request filters over one table; the latest ones are kept."""

    def __init__(self, table: ItemTable, base: Allowed) -> None:
        self._table = table
        self.base = base
        """What everybody may get: available, and within the pipeline's own filter."""
        self.rebuys = not np.isnan(table.rebuy_after_days_T).all()
        """Whether any item says itself how soon it may come again to who bought it."""
        self._kept: OrderedDict[tuple[str, str], Allowed] = OrderedDict()

    def of(self, wanted: Filter | None) -> Allowed:
        """Return the items that may come where a request asks for ``wanted``.

        Raises:
            ExpressionError: a parameter has no value.
        """
        if wanted is None:
            return self.base
        key = (wanted.expression.text, repr(sorted(wanted.values.items())))
        known = self._kept.get(key)
        if known is None:
            known = Allowed(self.base.mask_T & self.matching(wanted.expression, wanted.values))
            self._kept[key] = known
            # Another thread may have let go of the same one.
            while len(self._kept) > MASKS_KEPT:
                self._kept.popitem(last=False)
        return known

    def matching(self, expression: Expression, values: Mapping[str, Value] | None = None) -> BoolArray:
        """Return which items [T] an expression holds for."""
        return expression.mask(self._table, values or {})


@dataclass(frozen=True, slots=True)
class Excluded:
    """Rows that one person does not get, and why."""

    reason_of: dict[int, str]

    @property
    def rows(self) -> RowArray:
        """The rows [N], ascending, each once."""
        return np.sort(np.fromiter(self.reason_of, dtype=np.int32, count=len(self.reason_of)))


def excluded(request: Request, pipeline: Pipeline, table: ItemTable, *, rebuys: bool) -> Excluded:
    """Return what this person does not get now; where several reasons hold, the first of them.

    Args:
        request: who asks.
        pipeline: how lists are made.
        table: all items.
        rebuys: whether any of them says itself how soon it may come again to who bought it.
    """
    reason_of: dict[int, str] = {}
    reasons = chain(
        _asked(request, pipeline), _bought(request, pipeline, table) if rebuys or pipeline.bought_within_days else ()
    )
    for item_id, reason in reasons:
        row = table.items.row(item_id)
        if row is not None:
            reason_of.setdefault(row, reason)
    return Excluded(reason_of)


def _asked(request: Request, pipeline: Pipeline) -> Iterator[tuple[ItemId, str]]:
    if request.item_id is not None:
        yield request.item_id, LOOKED_AT
    for item_id in request.exclude:
        yield item_id, EXCLUDED
    if request.exclude_seen:
        for line in request.recent:
            yield line.item_id, SEEN
    if pipeline.frequency_cap is not None:
        for item_id, times in request.shown.items():
            if times >= pipeline.frequency_cap.times:
                yield item_id, CAPPED


def _bought(request: Request, pipeline: Pipeline, table: ItemTable) -> Iterator[tuple[ItemId, str]]:
    """Yield what was bought too recently: within the item's own days, or else the pipeline's."""
    otherwise = pipeline.bought_within_days or 0.0
    for line in _latest_purchases(request.recent):
        row = table.items.row(line.item_id)
        own = np.nan if row is None else float(table.rebuy_after_days_T[row])
        days = otherwise if np.isnan(own) else own
        if request.at_ms - line.at_ms < days * DAY_MS:
            yield line.item_id, f"bought within {days:g} days"


def _latest_purchases(recent: tuple[Recent, ...]) -> list[Recent]:
    """Return the last purchase of each item."""
    latest = {line.item_id: line for line in recent if line.interaction == InteractionType.PURCHASE}
    return list(latest.values())
