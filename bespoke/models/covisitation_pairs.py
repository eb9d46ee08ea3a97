"""Pairs of items that people visit together, and the strongest neighbours of each item.

Legend: N lines in visiting order, P pairs, I items, K neighbours.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from bespoke.clock import MINUTE_MS
from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray
from bespoke.models.base import Interactions

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """Every person's visits in their order: N lines, one person after the other."""

    user_N: RowArray
    item_N: RowArray
    at_ms_N: TimeArray
    weight_N: FloatArray
    session_N: IntArray
    """Number of the line's session; a session is one person's."""
    step_N: IntArray
    """Number of the line's moment; lines of one moment, such as of one basket, share it. It grows along the walk."""


def walk(interactions: Interactions, *, gap_minutes: float) -> Walk:
    """Return the lines as visits: a person's lines by time, repeated looks at one item in a row as one visit.

    Args:
        interactions: N lines in any order.
        gap_minutes: a session ends where a person does nothing for longer.
    """
    order_N = np.lexsort((_shuffle(interactions), interactions.at_ms_N, interactions.user_N))
    user_N, item_N = interactions.user_N[order_N], interactions.item_N[order_N]
    at_ms_N, weight_N = interactions.at_ms_N[order_N], interactions.weight_N[order_N]
    new_user_N = _changes(user_N)
    new_session_N = new_user_N | (_since_last(at_ms_N) > gap_minutes * MINUTE_MS)
    new_visit_N = new_session_N | _changes(item_N)
    first_V = np.flatnonzero(new_visit_N)
    new_step_N = new_session_N | (_changes(at_ms_N) & new_visit_N)
    return Walk(
        user_N=user_N[first_V],
        item_N=item_N[first_V],
        at_ms_N=at_ms_N[first_V],
        weight_N=np.maximum.reduceat(weight_N, first_V),
        session_N=np.cumsum(new_session_N, dtype=np.int64)[first_V],
        step_N=np.cumsum(new_step_N, dtype=np.int64)[first_V],
    )


def pair_totals(
    visits: Walk, value_N: FloatArray, *, items: int, window: int, step_decay: float, across_sessions: float
) -> csr_array:
    """Return how much each item [I] is followed by each other one [I], by the same person within ``window`` visits.

    A pair counts the product of both visits' values, times ``step_decay`` for every step between them after the first,
    times ``across_sessions`` where they lie in two sessions.
    """
    total_II = csr_array((items, items), dtype=np.float32)
    for apart in range(1, min(window, len(visits.item_N) - 1) + 1):
        one, other = slice(None, -apart), slice(apart, None)
        steps_P = np.maximum(visits.step_N[other] - visits.step_N[one], 1)
        value_P = value_N[one] * value_N[other] * np.power(np.float32(step_decay), steps_P - 1)
        value_P[visits.session_N[one] != visits.session_N[other]] *= across_sessions
        kept_P = (visits.user_N[one] == visits.user_N[other]) & (value_P > 0)
        place_P = visits.item_N[one][kept_P], visits.item_N[other][kept_P]
        total_II = total_II + csr_array((value_P[kept_P].astype(np.float32), place_P), shape=(items, items))
    return csr_array(total_II)


def strongest(total_II: csr_array, *, neighbours: int) -> tuple[RowArray, FloatArray]:
    """Return the K strongest neighbours [I, K] of each item, strongest first, and how strong [I, K]; 0 where none."""
    items = total_II.shape[0]
    kept = min(neighbours, items)
    from_P = np.repeat(np.arange(items, dtype=np.int64), np.diff(total_II.indptr))
    total_II.sort_indices()
    # The bits of positive floats are in the order of the floats, so one key sorts by item, then by strength.
    weakness_P = ~total_II.data.astype(np.float32).view(np.uint32)
    order_P = np.argsort(from_P.astype(np.uint64) << np.uint64(32) | weakness_P, kind="stable")
    rank_P = np.arange(len(order_P)) - total_II.indptr[from_P[order_P]]
    order_P, rank_P = order_P[rank_P < kept], rank_P[rank_P < kept]
    row_IK, value_IK = np.zeros((items, kept), dtype=np.int32), np.zeros((items, kept), dtype=np.float32)
    row_IK[from_P[order_P], rank_P] = total_II.indices[order_P]
    value_IK[from_P[order_P], rank_P] = total_II.data[order_P]
    return row_IK, value_IK


def _shuffle(interactions: Interactions) -> npt.NDArray[np.uint64]:
    """Return a number per line that depends on what the line says alone, in no order.

    The lines of one basket have no order in time. In the order of ids, a window over them would see the neighbours in
    the alphabet; in a different order per basket it sees a fair sample of all pairs.
    """
    mixed_N = interactions.item_N.astype(np.uint64) << np.uint64(32)
    mixed_N = _splitmix((mixed_N | interactions.user_N.astype(np.uint64)) ^ _splitmix(interactions.at_ms_N))
    return mixed_N


def _splitmix(value_N: AnyArray) -> npt.NDArray[np.uint64]:
    """Return the numbers mixed. Source: Steele, Lea, Flood 2014, the finaliser of SplitMix64."""
    mixed_N = value_N.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(factor)
    return mixed_N ^ (mixed_N >> np.uint64(31))


def _changes(value_N: AnyArray) -> npt.NDArray[np.bool_]:
    return np.concatenate([np.ones(1, dtype=np.bool_), value_N[1:] != value_N[:-1]])


def _since_last(at_ms_N: TimeArray) -> TimeArray:
    return np.diff(at_ms_N, prepend=at_ms_N[:1])
