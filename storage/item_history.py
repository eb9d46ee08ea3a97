"""Items' states as they were at some time, from the lake: the counts that serving had then."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bespoke.items import INTERACTIONS, ItemStates, states_of_lines
from storage.lake import Lake


def item_states_at(lake: Lake, at_ms: int) -> ItemStates:
    """Return the state of every item that the events received before ``at_ms`` make.

    It equals what was counted event by event, in whatever order, once everything received by then was in the lake.

    Raises:
        Unavailable: the lake's files kept vanishing while they were read.
    """
    events = lake.received_before(at_ms, columns=["interaction", "lines", "at_ms", "received_ms"]).combine_chunks()
    lines, parent_L = pc.list_flatten(events["lines"]), pc.list_parent_indices(events["lines"])
    items = _one(pc.struct_field(lines, "item_id")).dictionary_encode()
    code_V = pc.index_in(events["interaction"], value_set=pa.array(INTERACTIONS))
    return states_of_lines(
        items.dictionary.to_pylist(),
        item_L=_ints(items.indices),
        interaction_L=_ints(code_V.take(parent_L)),
        at_ms_L=_ints(events["at_ms"].take(parent_L)),
        received_ms_L=_ints(events["received_ms"].take(parent_L)),
    )


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _ints(column: pa.ChunkedArray | pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    values: np.ndarray[tuple[int], np.dtype[np.int64]] = _one(column).to_numpy(zero_copy_only=False).astype(np.int64)
    return values
