"""als: implicit-feedback matrix factorisation by alternating least squares.

Minimises, over user factors x and item factors y, with w the weight of an observed pair (u, i), |u| and |i| the number
of pairs of a user and of an item, and U and I the number of users and of items::

    sum_observed w (1 - x·y)^2  +  alpha0 sum_all (x·y)^2
      +  regularisation ( sum_u (|u| + alpha0 I)^nu |x|^2  +  sum_i (|i| + alpha0 U)^nu |y|^2 )

Source: Rendle, Krichene, Zhang, Koren 2021, "Revisiting the Performance of iALS on Item Recommendation Benchmarks".
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.events import ItemId, UserId
from bespoke.models.base import (
    AnyArray,
    Basis,
    Epoch,
    FloatArray,
    History,
    Interactions,
    ItemMass,
    Model,
    ModelConfig,
    OnEpoch,
    Vocabulary,
    check_arrays,
    item_mass,
)
from bespoke.models.popularity import decayed_counts

CHUNKS = 128
LINES_PER_BLOCK = 1 << 17


class AlsConfig(ModelConfig):
    """What als trains with."""

    factors: int = Field(default=64, ge=1, le=1024, description="Numbers per user and per item.")
    epochs: int = Field(default=6, ge=1, le=100, description="Rounds over both sides; more overfit.")
    alpha0: float = Field(default=1.0, gt=0, le=10, description="Weight of a pair that was not observed.")
    regularisation: float = Field(default=0.1, gt=0, le=100, description="Strength of the pull towards zero.")
    nu: float = Field(default=0.5, ge=0, le=2, description="How much more that pull is on rows with many pairs.")
    initial_scale: float = Field(default=0.1, gt=0, le=10, description="Standard deviation of a row's starting length.")
    steps: int = Field(default=2, ge=1, le=100, description="Conjugate gradient steps per row and half epoch.")
    mass_exponent: float = Field(
        default=1.0, ge=0, le=1, description="Weight of a pair = its total line weight to this power; 0 counts once."
    )
    half_life_days: float = Field(
        default=30.0, ge=0, le=3650, description="Age at which a line counts half; 0 for no ageing."
    )
    popularity_half_life_days: float = Field(
        default=14.0, gt=0, le=3650, description="Age at which a line counts half for popularity."
    )


class Als:
    """User and item factors. See :class:`bespoke.models.base.Model` for the interface.

    A person is placed among the items by solving the same least squares as training does, over the recent lines. Where
    no recent line is about a known item, the factors from training stand in, if the person took part in it.
    """

    kind: ClassVar[str] = "als"
    Config: ClassVar[type[ModelConfig]] = AlsConfig

    def __init__(
        self,
        user_UD: FloatArray,
        item_ID: FloatArray,
        popularity_I: FloatArray,
        *,
        users: Vocabulary[UserId],
        vocabulary: Vocabulary[ItemId],
        config: AlsConfig,
    ) -> None:
        self.user_UD = user_UD
        self.item_ID = item_ID
        self.popularity_I = popularity_I
        self.users = users
        self.vocabulary = vocabulary
        self.config = config
        self._gram_DD = gram(item_ID)

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: AlsConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Alternate between users and items; the same seed gives the same factors."""
        config = config or AlsConfig()
        popularity_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
        weight_UI = pair_weights(interactions, config=config, at_ms=at_ms)
        weight_IU = csr_array(weight_UI.T)
        user_UD, item_ID = _initial(weight_UI.shape, config=config, seed=seed)

        def ended(user_UD: FloatArray, item_ID: FloatArray) -> Any:
            user_UD, item_ID = half_epoch(weight_UI, user_UD, item_ID, config=config)
            return cls(
                user_UD, item_ID, popularity_I, users=interactions.users, vocabulary=interactions.items, config=config
            )

        for epoch in range(1, config.epochs + 1):
            user_UD, item_ID = half_epoch(weight_UI, user_UD, item_ID, config=config)
            item_ID, user_UD = half_epoch(weight_IU, item_ID, user_UD, config=config)
            if on_epoch is not None:
                loss = objective(weight_UI, user_UD, item_ID, config=config)
                if on_epoch(Epoch(epoch, loss, partial(ended, user_UD, item_ID))):
                    break
        model: Self = ended(user_UD, item_ID)
        return model

    def basis(self, history: History) -> Basis:
        """Return what places this person among the items."""
        if history.user_id is not None and history.user_id in self.users:
            return Basis.PERSON
        return Basis.RECENT_ITEMS if len(self._mass(history)) else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return the products [I] of the person's factors with every item's."""
        factors_D = self.factors(history)
        return self.popularity_I if factors_D is None else self.item_ID @ factors_D

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I] by one matrix product."""
        placed = [self.factors(history) for history in histories]
        factors_BD = np.zeros((len(placed), self.item_ID.shape[1]), dtype=np.float32)
        for row, factors_D in enumerate(placed):
            if factors_D is not None:
                factors_BD[row] = factors_D
        scores_BI: FloatArray = factors_BD @ self.item_ID.T
        scores_BI[[factors_D is None for factors_D in placed]] = self.popularity_I
        return scores_BI

    def factors(self, history: History) -> FloatArray | None:
        """Return where the person stands [D], or None where nothing is known."""
        mass = self._mass(history)
        if len(mass):
            return self.fold_in(mass)
        row = None if history.user_id is None else self.users.row(history.user_id)
        return None if row is None else self.user_UD[row]

    def fold_in(self, mass: ItemMass) -> FloatArray:
        """Solve for the factors [D] of a person with these items, exactly."""
        config = self.config
        near_HD = self.item_ID[mass.row_H].astype(np.float64)
        weight_H = mass.mass_H.astype(np.float64) ** config.mass_exponent
        pull = _regularisation(np.array([len(mass)]), others=len(self.vocabulary), config=config)[0]
        system_DD = config.alpha0 * self._gram_DD + (near_HD.T * weight_H) @ near_HD
        system_DD[np.diag_indices_from(system_DD)] += pull
        solution: AnyArray = cho_solve(
            cho_factor(system_DD, check_finite=False), weight_H @ near_HD, check_finite=False
        )
        return solution.astype(np.float32)

    def arrays(self) -> dict[str, AnyArray]:
        """Return both tables of factors and popularity."""
        return {"user_factors": self.user_UD, "item_factors": self.item_ID, "popularity": self.popularity_I}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: AlsConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        shapes = {
            "user_factors": (len(users), config.factors),
            "item_factors": (len(vocabulary), config.factors),
            "popularity": (len(vocabulary),),
        }
        check_arrays(arrays, shapes, kind=cls.kind)
        return cls(
            arrays["user_factors"],
            arrays["item_factors"],
            arrays["popularity"],
            users=users,
            vocabulary=vocabulary,
            config=config,
        )

    def _mass(self, history: History) -> ItemMass:
        return item_mass(
            history,
            vocabulary=self.vocabulary,
            weights=self.config.interaction_weights,
            half_life_days=self.config.half_life_days or None,
        )


def pair_weights(interactions: Interactions, *, config: AlsConfig, at_ms: int) -> csr_array:
    """Return the weight of each observed pair, [U, I]."""
    weight_N = interactions.decayed_weights(at_ms=at_ms, half_life_days=config.half_life_days or None)
    weight_UI = interactions.to_csr(weight_N)
    weight_UI.data = np.power(weight_UI.data, np.float32(config.mass_exponent))
    return weight_UI


def half_epoch(
    weight_RF: csr_array, solved_RD: FloatArray, fixed_FD: FloatArray, *, config: AlsConfig
) -> tuple[FloatArray, FloatArray]:
    """Improve one side, R rows, while the other, F rows, stands; return both, rotated alike.

    A rotation of both sides changes no product. It is chosen so that the fixed side's Gram matrix is diagonal, which
    makes the diagonal a good preconditioner and the rows' systems cheap.
    """
    from bespoke.models.als_kernel import solve_rows  # numba takes a second to load, and serving has no need of it

    eigenvalue_D, rotation_DD = np.linalg.eigh(gram(fixed_FD))
    rotation_DD = rotation_DD.astype(np.float32)
    fixed_FD, solved_RD = fixed_FD @ rotation_DD, solved_RD @ rotation_DD
    starts = weight_RF.indptr.astype(np.int64)
    pull_R = _regularisation(np.diff(starts), others=len(fixed_FD), config=config)
    solve_rows(
        starts,
        weight_RF.indices.astype(np.int32),
        weight_RF.data.astype(np.float32),
        np.ascontiguousarray(fixed_FD),
        solved_RD,
        (config.alpha0 * np.maximum(eigenvalue_D, 0)).astype(np.float32),
        pull_R.astype(np.float32),
        _chunks(starts),
        config.steps,
    )
    return solved_RD, fixed_FD


def objective(weight_UI: csr_array, user_UD: FloatArray, item_ID: FloatArray, *, config: AlsConfig) -> float:
    """Return what training minimises; see the top of this file."""
    pairs = weight_UI.tocoo()
    observed = 0.0
    for start in range(0, pairs.nnz, LINES_PER_BLOCK):
        block = slice(start, start + LINES_PER_BLOCK)
        product = np.einsum("nd,nd->n", user_UD[pairs.coords[0][block]], item_ID[pairs.coords[1][block]])
        observed += float(np.sum(pairs.data[block] * (1.0 - product) ** 2, dtype=np.float64))
    everywhere = config.alpha0 * float(np.sum(gram(user_UD) * gram(item_ID)))
    pull_U = _regularisation(np.diff(weight_UI.indptr), others=len(item_ID), config=config)
    pull_I = _regularisation(np.bincount(weight_UI.indices, minlength=len(item_ID)), others=len(user_UD), config=config)
    lengths = float(pull_U @ np.square(user_UD).sum(axis=1) + pull_I @ np.square(item_ID).sum(axis=1))
    return observed + everywhere + lengths


def gram(table_RD: FloatArray) -> AnyArray:
    """Return the table's Gram matrix [D, D] in double precision."""
    product: AnyArray = table_RD.T @ table_RD
    return product.astype(np.float64)


def _regularisation(pairs_R: AnyArray, *, others: int, config: AlsConfig) -> AnyArray:
    """Return the pull towards zero [R] of rows with so many observed pairs."""
    pull_R: AnyArray = config.regularisation * (pairs_R + config.alpha0 * others) ** config.nu
    return pull_R


def _initial(shape: tuple[int, int], *, config: AlsConfig, seed: int) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(seed)
    scale = config.initial_scale / np.sqrt(config.factors)
    user_UD, item_ID = (random.normal(0.0, scale, (rows, config.factors)).astype(np.float32) for rows in shape)
    return user_UD, item_ID


def _chunks(starts: AnyArray) -> AnyArray:
    """Return the row at which each chunk starts, and the end: about as many interactions in each."""
    cuts = np.searchsorted(starts, np.linspace(0, starts[-1], CHUNKS + 1))
    cuts[0], cuts[-1] = 0, len(starts) - 1
    return np.unique(cuts).astype(np.int64)
