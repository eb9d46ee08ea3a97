"""What an epoch of als does, on whole tables or on blocks of them. What it minimises stands at the top of als.py.

Shapes: R rows of the side that is solved, F rows of the side that stands still, N observed pairs of those R rows.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.sparse import csr_array

from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray
from bespoke.vocabulary import CHUNK, chunk_starts

if TYPE_CHECKING:
    from bespoke.models.als import AlsConfig

FACTORS_FOR_THREADS = 256
"""From so many factors on, several threads of linear algebra are worth their waiting for one another."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The observed pairs of R rows of one side, row by row."""

    start_R: TimeArray
    """[R + 1]: row r's pairs lie from ``start_R[r]`` to ``start_R[r + 1]``."""
    other_N: RowArray
    """The row of the other side."""
    weight_N: FloatArray
    place_N: RowArray
    """Where the pair's product lies in the array that carries the products."""
    pull_R: FloatArray
    """The pull towards zero."""
    others: int
    """F."""

    @classmethod
    def of(cls, weight_RF: csr_array, *, config: "AlsConfig", place_N: RowArray | None = None) -> Self:
        """Return the pairs of a sparse matrix; their products lie in its order unless ``place_N`` says otherwise."""
        start_R = weight_RF.indptr.astype(np.int64)
        return cls(
            start_R=start_R,
            other_N=weight_RF.indices.astype(np.int32, copy=False),
            weight_N=weight_RF.data.astype(np.float32, copy=False),
            place_N=np.arange(weight_RF.nnz, dtype=np.int32) if place_N is None else place_N,
            pull_R=regularisation(np.diff(start_R), others=weight_RF.shape[1], config=config),
            others=weight_RF.shape[1],
        )


def both_sides(weight_UI: csr_array, *, config: "AlsConfig") -> tuple[Pairs, Pairs]:
    """Return the pairs by user and by item; both carry their products in the users' order."""
    users = Pairs.of(weight_UI, config=config)
    place_IU = csr_array(csr_array((users.place_N, weight_UI.indices, weight_UI.indptr), shape=weight_UI.shape).T)
    weight_IU = csr_array(
        (weight_UI.data[place_IU.data], place_IU.indices, place_IU.indptr), shape=weight_UI.shape[::-1]
    )
    return users, Pairs.of(weight_IU, config=config, place_N=place_IU.data)


@dataclass(frozen=True, slots=True)
class Turn:
    """The rotation [D, D] after which a table's Gram matrix is diagonal, and that diagonal [D]."""

    rotation_DD: FloatArray
    diagonal_D: FloatArray

    @classmethod
    def of(cls, gram_DD: AnyArray) -> Self:
        """Return the rotation for a Gram matrix in double precision."""
        with _threads_worth_it(len(gram_DD) // 2):
            eigenvalue_D, rotation_DD = np.linalg.eigh(gram_DD)
        return cls(rotation_DD.astype(np.float32), np.maximum(eigenvalue_D, 0).astype(np.float32))


def half_epoch(
    pairs: Pairs,
    solved_RD: FloatArray,
    fixed_FD: FloatArray,
    *,
    config: "AlsConfig",
    product_N: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Improve one side while the other stands; return both, rotated alike.

    A rotation of both sides changes no product. It is chosen so that the fixed side's Gram matrix is diagonal, which
    makes the diagonal a good preconditioner and the rows' systems cheap.

    Args:
        pairs: of the side that is solved.
        solved_RD: where its rows begin.
        fixed_FD: the other side.
        config: what to minimise.
        product_N: the pairs' products, which follow along; worked out here where None.
    """
    with _threads_worth_it(fixed_FD.shape[1]):
        turn = Turn.of(gram(fixed_FD))
        fixed_FD, solved_RD = fixed_FD @ turn.rotation_DD, solved_RD @ turn.rotation_DD
    if product_N is None:
        product_N = products(pairs, solved_RD, fixed_FD)
    solve(pairs, solved_RD, fixed_FD, turn.diagonal_D, product_N, config=config)
    return solved_RD, fixed_FD


def solve(
    pairs: Pairs,
    solved_RD: FloatArray,
    fixed_FD: FloatArray,
    diagonal_D: FloatArray,
    product_N: FloatArray,
    *,
    config: "AlsConfig",
) -> None:
    """Improve ``solved_RD`` and ``product_N`` in place; ``fixed_FD`` has the diagonal Gram matrix ``diagonal_D``."""
    from bespoke.models.als_kernel import chunks, solve_rows  # numba takes a second to load; serving has no need of it

    solve_rows(
        pairs.start_R,
        pairs.other_N,
        pairs.weight_N,
        pairs.place_N,
        product_N,
        np.ascontiguousarray(fixed_FD),
        solved_RD,
        diagonal_D,
        config.alpha0,
        pairs.pull_R,
        chunks(pairs.start_R),
        config.steps,
    )


def products(pairs: Pairs, solved_RD: FloatArray, fixed_FD: FloatArray) -> FloatArray:
    """Return the pairs' products [N] where ``pairs.place_N`` wants them."""
    from bespoke.models.als_kernel import chunks, pair_products

    in_order_N = np.empty(len(pairs.other_N), dtype=np.float32)
    pair_products(pairs.start_R, pairs.other_N, fixed_FD, solved_RD, chunks(pairs.start_R), in_order_N)
    product_N = np.empty_like(in_order_N)
    product_N[pairs.place_N] = in_order_N
    return product_N


def misfit(pairs: Pairs, product_N: FloatArray) -> float:
    """Return the part of the objective that the observed pairs make up."""
    miss_N = 1.0 - product_N[pairs.place_N]
    return float(np.sum(pairs.weight_N * miss_N * miss_N, dtype=np.float64))


def length_cost(pairs: Pairs, table_RD: FloatArray) -> float:
    """Return the part of the objective that the lengths of these rows make up."""
    return float(pairs.pull_R @ np.einsum("rd,rd->r", table_RD, table_RD))


def objective(users: Pairs, items: Pairs, user_UD: FloatArray, item_ID: FloatArray, *, config: "AlsConfig") -> float:
    """Return what training minimises; see the top of als.py."""
    everywhere = config.alpha0 * float(np.sum(gram(user_UD) * gram(item_ID)))
    observed = misfit(users, products(users, user_UD, item_ID))
    return observed + everywhere + length_cost(users, user_UD) + length_cost(items, item_ID)


def gram(table_RD: FloatArray) -> AnyArray:
    """Return the table's Gram matrix [D, D] in double precision."""
    product: AnyArray = table_RD.T @ table_RD
    return product.astype(np.float64)


def squares(table_RD: FloatArray) -> AnyArray:
    """Return the diagonal [D] of the table's Gram matrix."""
    square_D = np.zeros(table_RD.shape[1])
    for first in chunk_starts(len(table_RD)):
        part_CD = table_RD[first : first + CHUNK]
        square_D += np.einsum("rd,rd->d", part_CD, part_CD, dtype=np.float64)
    return square_D


def regularisation(pairs_R: AnyArray, *, others: int, config: "AlsConfig") -> FloatArray:
    """Return the pull towards zero [R] of rows with so many observed pairs."""
    pull_R: AnyArray = config.regularisation * (pairs_R + config.alpha0 * others) ** config.nu
    return pull_R.astype(np.float32)


def _threads_worth_it(factors: int) -> AbstractContextManager[Any]:
    """Hold linear algebra to one thread while matrices are small: waiting in spins costs more than the work."""
    if factors >= FACTORS_FOR_THREADS:
        return nullcontext()
    limit: AbstractContextManager[Any] = _thread_pools().limit(limits=1, user_api="blas")
    return limit


@cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def in_own_basis(user_UD: FloatArray, item_ID: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return both tables, turned alike where the items' Gram matrix is not diagonal yet."""
    probe_D = np.random.default_rng(0).choice([-1.0, 1.0], item_ID.shape[1])
    expected_D = squares(item_ID) * probe_D
    by_table_D = item_ID.T @ (item_ID @ probe_D.astype(np.float32))
    if np.linalg.norm(by_table_D - expected_D) <= 1e-4 * np.linalg.norm(expected_D):
        return user_UD, item_ID
    rotation_DD = Turn.of(gram(item_ID)).rotation_DD
    return user_UD @ rotation_DD, item_ID @ rotation_DD
