"""Item counts of a batch of events: what everybody in it did with each item."""

from collections.abc import Sequence

import numpy as np

from bespoke.events import Event
from bespoke.items import INTERACTIONS, ItemStates, states_of_lines

_CODE_OF = {name: code for code, name in enumerate(INTERACTIONS)}


def counted(events: Sequence[Event]) -> ItemStates:
    """Return the states of the items that the events are about, as if nothing had happened before."""
    about = [(event, interaction) for event in events if (interaction := event.interaction) is not None]
    row_of: dict[str, int] = {}
    items = [row_of.setdefault(line.item_id, len(row_of)) for event, _ in about for line in event.lines]
    lines = [len(event.lines) for event, _ in about]
    return states_of_lines(
        list(row_of),
        item_L=np.array(items, np.int64),
        interaction_L=np.repeat(np.array([_CODE_OF[interaction] for _, interaction in about], np.int64), lines),
        at_ms_L=np.repeat(np.array([event.at_ms for event, _ in about], np.int64), lines),
        received_ms_L=np.repeat(np.array([event.received_ms for event, _ in about], np.int64), lines),
    )
