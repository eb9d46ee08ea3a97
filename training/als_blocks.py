"""als over nodes: blocks of people and of items as Ray tasks, the factors in the object store.

The driver sees no factors until the end, only Gram matrices [D, D] and sums. A half epoch is: the Gram matrix of each
block of the fixed side, added up; its rotation, applied to each block; and one task per block of the solved side, which
reads the whole fixed side. The arithmetic is that of :mod:`bespoke.models.als_epochs`, so the model is that of
``Als.fit`` up to rounding, whatever the number of blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import ray
from scipy.sparse import csr_array

from bespoke.models.als import Als, AlsConfig, discounted, pair_weights, starting_tables
from bespoke.models.als_epochs import Pairs, Turn, gram, length_cost, misfit, products, solve, squares
from bespoke.models.als_kernel import chunks
from bespoke.models.arrays import AnyArray, FloatArray
from bespoke.models.base import Epoch, Interactions, OnEpoch
from bespoke.models.popularity import decayed_counts


@dataclass(frozen=True, slots=True)
class Side:
    """People or items in blocks of rows; everything is references into the object store."""

    pairs: Sequence[Any]
    """The :class:`Pairs` of each block."""
    table: Sequence[Any]
    """The factors [R, D] of each block."""
    costs: "Sequence[Costs]" = ()
    """What each block adds to the objective, where it has been solved."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a solved block adds to the objective."""

    misfit: float
    length: float
    square_D: AnyArray
    """The diagonal of the block's Gram matrix."""


def fit_on_ray(
    interactions: Interactions,
    *,
    config: AlsConfig | None = None,
    at_ms: int,
    seed: int = 0,
    start: Als | None = None,
    blocks: int,
    on_epoch: OnEpoch | None = None,
) -> Als:
    """Return what ``Als.fit`` does, with the work of each half epoch spread over ``blocks`` Ray tasks.

    Raises:
        TrainingError: there is nothing to learn from.
    """
    config = config or AlsConfig()
    popularity_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
    weight_UI, weight_I = discounted(pair_weights(interactions, config=config, at_ms=at_ms), config=config)
    user_UD, item_ID = starting_tables(interactions, config=config, seed=seed, start=start)
    users = _in_blocks(weight_UI, user_UD, blocks=blocks, config=config)
    items = _in_blocks(csr_array(weight_UI.T), item_ID, blocks=blocks, config=config)

    def ended(users: Side, items: Side) -> Als:
        users, items, _ = _half_epoch(users, items, config=config)
        user_UD, item_ID = (np.concatenate(ray.get(list(side.table))) for side in (users, items))
        people, vocabulary = interactions.users, interactions.items
        return Als(user_UD, item_ID, popularity_I, weight_I, users=people, vocabulary=vocabulary, config=config)

    for epoch in range(1, config.epochs + 1):
        users, items, _ = _half_epoch(users, items, config=config)
        items, users, diagonal_D = _half_epoch(items, users, config=config)
        if on_epoch is not None:
            loss = _loss(users, items, diagonal_D, config=config)
            if on_epoch(Epoch(epoch, loss, partial(ended, users, items))):
                break
    return ended(users, items)


def _in_blocks(weight_RF: csr_array, table_RD: FloatArray, *, blocks: int, config: AlsConfig) -> Side:
    """Cut one side into blocks of about as many pairs each."""
    cuts = chunks(weight_RF.indptr.astype(np.int64), count=blocks).tolist()
    parts = [slice(first, end) for first, end in pairwise(cuts)]
    pairs = [ray.put(Pairs.of(weight_RF[part], config=config)) for part in parts]
    return Side(pairs, [ray.put(table_RD[part]) for part in parts])


def _half_epoch(solved: Side, fixed: Side, *, config: AlsConfig) -> tuple[Side, Side, FloatArray]:
    """Improve one side while the other stands; return both, rotated alike, and the diagonal of the fixed one's Gram."""
    turn = Turn.of(np.sum(ray.get([_gram.remote(table) for table in fixed.table]), axis=0))
    shared = ray.put(turn)
    turned = [_turned.remote(table, shared) for table in fixed.table]
    improved = [
        _solved.remote(pairs, table, shared, config, *turned)
        for pairs, table in zip(solved.pairs, solved.table, strict=True)
    ]
    tables, costs = zip(*improved, strict=True)
    return Side(solved.pairs, tables, ray.get(list(costs))), replace(fixed, table=turned), turn.diagonal_D


def turned_block(table_RD: FloatArray, turn: Turn) -> FloatArray:
    """Return one block of the fixed side in the new basis."""
    return table_RD @ turn.rotation_DD


def solved_block(
    pairs: Pairs, table_RD: FloatArray, turn: Turn, config: AlsConfig, *fixed: FloatArray
) -> tuple[FloatArray, Costs]:
    """Return one block of the solved side, improved, and what it costs."""
    numba.set_num_threads(1)  # A task is one CPU; the other cores belong to other blocks.
    fixed_FD = np.concatenate(fixed)
    table_RD = table_RD @ turn.rotation_DD
    product_N = products(pairs, table_RD, fixed_FD)
    solve(pairs, table_RD, fixed_FD, turn.diagonal_D, product_N, config=config)
    return table_RD, Costs(misfit(pairs, product_N), length_cost(pairs, table_RD), squares(table_RD))


_gram: Any = ray.remote(gram)
_turned: Any = ray.remote(turned_block)
_solved: Any = ray.remote(num_returns=2)(solved_block)


def _loss(users: Side, items: Side, diagonal_D: FloatArray, *, config: AlsConfig) -> float:
    """Return the objective after the items were solved, when the users' Gram matrix is diagonal."""
    everywhere = config.alpha0 * float(diagonal_D @ np.sum([cost.square_D for cost in items.costs], axis=0))
    lengths = sum(cost.length for side in (users, items) for cost in side.costs)
    return everywhere + sum(cost.misfit for cost in items.costs) + lengths
