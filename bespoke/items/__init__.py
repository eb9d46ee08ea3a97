"""Items: what everybody together does with each, as state that counts events in and yields features at any time.

As with profiles, the state depends on the set of events alone, never on the order of their arrival: smallest and
largest times, and counts of which only those are dropped that are too old against the item's newest event. Nobody's id
is in it.

state.py      one item       many.py      many items as arrays, for bulk
declared.py   the features, declared
"""

from bespoke.items.declared import ITEM_FEATURES, ItemFeature
from bespoke.items.many import INTERACTIONS, ItemStates, merged, states_of_lines
from bespoke.items.state import (
    DAYS_KEPT,
    HOURS_KEPT,
    ITEM_COLUMNS,
    UNKNOWN,
    ItemState,
    count,
    from_row,
    merge,
    to_row,
)

__all__ = [
    "DAYS_KEPT",
    "HOURS_KEPT",
    "INTERACTIONS",
    "ITEM_COLUMNS",
    "ITEM_FEATURES",
    "UNKNOWN",
    "ItemFeature",
    "ItemState",
    "ItemStates",
    "count",
    "from_row",
    "merge",
    "merged",
    "states_of_lines",
    "to_row",
]
