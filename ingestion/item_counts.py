"""Item counts of a batch of events: what everybody in it did with each item."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bespoke.events import Event
from bespoke.items import INTERACTIONS, ItemStates, states_of_lines

_CODE_OF = {name: code for code, name in enumerate(INTERACTIONS)}


def counted(events: Sequence[Event]) -> ItemStates:
    """Return the states of the items that the events are about, as if nothing had happened before."""
    about = [(event, interaction) for event in events if (interaction := event.interaction) is not None]
    items = pa.array([line.item_id for event, _ in about for line in event.lines], pa.string()).dictionary_encode()
    lines = [len(event.lines) for event, _ in about]
    return states_of_lines(
        items.dictionary.to_pylist(),
        item_L=items.indices.to_numpy().astype(np.int64),
        interaction_L=np.repeat(np.array([_CODE_OF[interaction] for _, interaction in about], np.int64), lines),
        at_ms_L=np.repeat(np.array([event.at_ms for event, _ in about], np.int64), lines),
        received_ms_L=np.repeat(np.array([event.received_ms for event, _ in about], np.int64), lines),
    )
