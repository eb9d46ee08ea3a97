"""Ranking for many people: scores in batches, what they may not be shown left out, the exact best of the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import top_k
from training.offline.lines import Candidates, Lines, is_in, pair_of

SCORES_PER_BATCH = 1 << 23
"""How many scores are held at once: 32 MB, and twice that while they are looked through."""
MAX_BATCH = 1024
LOWEST = np.finfo(np.float32).min
FROM_TRAINING = frozenset({"als"})
"""Kinds that keep of each person what a whole history would tell them again, at a price per person."""

ALIKE = frozenset({"popularity"})
"""Kinds that rank for everybody alike, by popularity."""
ALIKE_BUT_OWN = frozenset({"buy_again"})
"""Kinds that do so apart from what the person has had."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be recommended to whom."""

    train: Lines
    repeats: bool
    """Whether items that a person has in ``train`` may be recommended."""
    candidates: Candidates | None = None
    """Nothing else may be recommended, where given."""


def rank(model: Model, user_rows: AnyArray, rules: Rules, *, k: int) -> RowArray:
    """Return the rows of the ``k`` best items for each user [S, K], best first, -1 past the last one.

    Equal scores rank in the order of the ids.
    """
    item_of = _item_rows(model, rules.train)
    row_of = np.full(len(rules.train.ids.items) + 1, -1, dtype=np.int64)
    row_of[item_of] = np.arange(len(item_of))
    histories = _histories(model, user_rows, rules.train)
    if rules.candidates is None and (model.kind in ALIKE or (model.kind in ALIKE_BUT_OWN and not rules.repeats)):
        return _rank_alike(item_of[top_k(model.popularity_I, k=len(item_of))], user_rows, rules, k=k)
    best_SK = np.full((len(user_rows), k), -1, dtype=np.int32)
    size = max(1, min(MAX_BATCH, SCORES_PER_BATCH // max(1, len(item_of))))
    for start in range(0, len(user_rows), size):
        batch = list(islice(histories, size))
        scores_BI = model.scores_batch(batch).astype(np.float32, copy=True)
        rows_B = user_rows[start : start + size]
        _hide(scores_BI, rows_B, rules, row_of)
        found_BK = best_rows(scores_BI, k=k)
        best_SK[start : start + size, : found_BK.shape[1]] = np.where(found_BK < 0, -1, item_of[found_BK])
    return best_SK


def _rank_alike(order_I: AnyArray, user_rows: AnyArray, rules: Rules, *, k: int) -> RowArray:
    """Return the first ``k`` of one order for everybody, leaving out what each person may not be shown."""
    best_SK = np.full((len(user_rows), k), -1, dtype=np.int32)
    train = rules.train
    for start in range(0, len(user_rows), MAX_BATCH):
        rows_B = user_rows[start : start + MAX_BATCH]
        taken = 0 if rules.repeats else int(train.lines_U[rows_B].max(initial=0))
        first_C = order_I[: k + taken]
        shown_BC = np.ones((len(rows_B), len(first_C)), dtype=np.bool_)
        if taken:
            shown_BC = ~is_in(pair_of(rows_B[:, None], first_C[None, :], train.ids), train.pairs)
        place_BC = np.cumsum(shown_BC, axis=1)
        row_N, place_N = np.nonzero(shown_BC & (place_BC <= k))
        best_SK[start + row_N, place_BC[row_N, place_N] - 1] = first_C[place_N]
    return best_SK


def hits(best_SK: RowArray, user_rows: AnyArray, relevant: AnyArray, lines: Lines) -> AnyArray:
    """Return whether the item at each rank is relevant, [S, K].

    Args:
        best_SK: rows of items, -1 for none.
        user_rows: whose lists they are.
        relevant: pairs in ascending order.
        lines: any lines of the same numbering.
    """
    pair_SK = pair_of(user_rows[:, None], best_SK, lines.ids)
    found: AnyArray = is_in(pair_SK, relevant) & (best_SK >= 0)
    return found


def best_rows(scores_BI: FloatArray, *, k: int) -> RowArray:
    """Return the rows of the ``k`` highest scores of each line, -1 past them; equal ones as in ``top_k`` of one line.

    >>> best_rows(np.array([[.1, .3, .3, -np.inf]], dtype=np.float32), k=5).tolist()
    [[1, 2, 0, -1]]
    """
    batch, items = scores_BI.shape
    k_most = min(k, items)
    best_BK = np.full((batch, k_most), -1, dtype=np.int32)
    least_B = np.maximum(_threshold(scores_BI, k=k_most), LOWEST)
    place_C = np.flatnonzero(scores_BI >= least_B[:, None])
    row_C, item_C = np.divmod(place_C, items)
    counts_B = np.bincount(row_C, minlength=batch)
    # Where very many scores are equal, sorting them all would cost more than going line by line.
    crowded_B = counts_B > 16 * k_most + 256
    for row in np.flatnonzero(crowded_B):
        found = top_k(scores_BI[row], k=k_most)
        best_BK[row, : len(found)] = found
    kept_C = ~crowded_B[row_C]
    row_C, item_C = row_C[kept_C], item_C[kept_C]
    order_C = np.lexsort((item_C, -scores_BI[row_C, item_C], row_C))
    row_C, item_C = row_C[order_C], item_C[order_C]
    rank_C = np.arange(len(row_C)) - np.searchsorted(row_C, row_C)
    best_BK[row_C[rank_C < k_most], rank_C[rank_C < k_most]] = item_C[rank_C < k_most]
    return best_BK


def _threshold(scores_BI: FloatArray, *, k: int) -> FloatArray:
    """Return a score for each line that its ``k`` highest reach: the k-th of the highest ones of blocks."""
    batch, items = scores_BI.shape
    width = max(1, items // max(1, 4 * k))
    blocks = items // width
    highest_BW = scores_BI[:, : blocks * width].reshape(batch, blocks, width).max(axis=2)
    least_B: FloatArray = np.partition(highest_BW, blocks - k, axis=1)[:, blocks - k]
    return least_B


def _item_rows(model: Model, lines: Lines) -> AnyArray:
    row_of = lines.ids.row_of_item
    return np.array([row_of[item_id] for item_id in model.vocabulary.ids], dtype=np.int64)


def _histories(model: Model, user_rows: AnyArray, train: Lines) -> Iterator[History]:
    if model.kind in FROM_TRAINING:
        # Who is not among the model's people has no line that counts, so that nothing is left out.
        return (History(train.ids.users[row], (), train.cut_ms) for row in user_rows)
    return train.histories(user_rows, model.config.interaction_weights, at_ms=train.cut_ms)


def _hide(scores_BI: FloatArray, rows_B: AnyArray, rules: Rules, row_of: AnyArray) -> None:
    """Put what may not be recommended to minus infinity, in place."""
    if rules.candidates is not None:
        hidden_BI = np.ones(scores_BI.shape, dtype=np.bool_)
        _mark(hidden_BI, [rules.candidates.of_user(row) for row in rows_B], row_of, value=False)
        scores_BI[hidden_BI] = -np.inf
    if not rules.repeats:
        train = rules.train
        taken = [train.item_N[train.starts_U[row] : train.starts_U[row + 1]] for row in rows_B]
        _mark(scores_BI, taken, row_of, value=-np.inf)


def _mark(table_BI: AnyArray, items: Sequence[AnyArray], row_of: AnyArray, *, value: float) -> None:
    line_C = np.repeat(np.arange(len(items)), [len(some) for some in items])
    item_C = row_of[np.concatenate([*items, np.zeros(0, dtype=np.int64)]).astype(np.int64)]
    known_C = item_C >= 0
    table_BI[line_C[known_C], item_C[known_C]] = value
