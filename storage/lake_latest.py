"""The last row of each person, found in many files without holding all of them in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.lake_tables import STATES

Rows = npt.NDArray[np.int64]


def last_of_each(key_N: pa.ChunkedArray, order_N: npt.NDArray[np.int64]) -> Rows:
    """Return, ascending, the row of each distinct key at which ``order_N`` is greatest."""
    code_N = pc.dictionary_encode(key_N).combine_chunks().indices.to_numpy()
    by_order_N = np.argsort(order_N, kind="stable")
    # Of the rows of one key, the last one in order stays.
    last_K = np.zeros(code_N.max(initial=-1) + 1, np.int64)
    last_K[code_N[by_order_N]] = by_order_N
    return np.sort(last_K)


def latest_states(paths: Sequence[Path], *, until_ms: int | None) -> pa.Table:
    """Return each person's row of the greatest version among those received before ``until_ms``."""
    keys_of = [pq.read_table(path, columns=["user_id", "version", "received_ms"]) for path in paths]
    if not keys_of:
        return STATES.empty_table()
    starts = np.cumsum([0, *(keys.num_rows for keys in keys_of)])
    keys = pa.concat_tables(keys_of)
    seen_N = np.arange(keys.num_rows)
    if until_ms is not None:
        seen_N = np.flatnonzero(keys.column("received_ms").to_numpy() < until_ms)
        keys = keys.take(seen_N)
    rows = seen_N[last_of_each(keys.column("user_id"), keys.column("version").to_numpy())]
    tables = [
        pq.read_table(path, schema=STATES).take(rows[(rows >= start) & (rows < end)] - start)
        for path, start, end in zip(paths, starts[:-1], starts[1:], strict=True)
        if ((rows >= start) & (rows < end)).any()
    ]
    return pa.concat_tables([STATES.empty_table(), *tables])
