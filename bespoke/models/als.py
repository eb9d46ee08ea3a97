"""als: implicit-feedback matrix factorisation by alternating least squares.

Minimises, over user factors x and item factors y, with w the weight of an observed pair (u, i), |u| and |i| the number
of pairs of a user and of an item, and U and I the number of users and of items. A pair's weight is that of its lines,
less with many pairs of its item and its user where the discounts say so::

    sum_observed w (1 - x·y)^2  +  alpha0 sum_all (x·y)^2
      +  regularisation ( sum_u (|u| + alpha0 I)^nu |x|^2  +  sum_i (|i| + alpha0 U)^nu |y|^2 )

Source: Rendle, Krichene, Zhang, Koren 2021, "Revisiting the Performance of iALS on Item Recommendation Benchmarks".
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.linalg import lapack
from scipy.sparse import csr_array

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.events import ItemId, UserId
from bespoke.models.als_epochs import (
    both_sides,
    half_epoch,
    in_own_basis,
    length_cost,
    misfit,
    products,
    regularisation,
    squares,
)
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Epoch, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.history import History, ItemMass, any_known, item_mass
from bespoke.models.index import BoolArray, Ranking, Retrieved
from bespoke.models.nearest import Codes, Directions, NearestItems, lengths
from bespoke.models.popularity import decayed_counts
from bespoke.vocabulary import Vocabulary


class AlsConfig(ModelConfig):
    """What als trains with."""

    factors: int = Field(default=64, ge=1, le=2048, description="Numbers per user and per item.")
    epochs: int = Field(default=6, ge=1, le=100, description="Rounds over both sides; more overfit.")
    alpha0: float = Field(default=1.0, gt=0, le=10, description="Weight of a pair that was not observed.")
    regularisation: float = Field(default=0.1, gt=0, le=100, description="Strength of the pull towards zero.")
    nu: float = Field(default=0.5, ge=0, le=2, description="How much more that pull is on rows with many pairs.")
    initial_scale: float = Field(default=0.1, gt=0, le=10, description="Standard deviation of a row's starting length.")
    steps: int = Field(default=2, ge=1, le=100, description="Conjugate gradient steps per row and half epoch.")
    mass_exponent: float = Field(
        default=1.0, ge=0, le=1, description="Weight of a pair = its total line weight to this power; 0 counts once."
    )
    item_discount: float = Field(
        default=0.0, ge=0, le=1, description="Weight of a pair / (people who have the item) to this power."
    )
    user_discount: float = Field(
        default=0.0, ge=0, le=1, description="Weight of a pair / (items that the person has) to this power."
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

    The tables stand in the basis where the items' Gram matrix is diagonal, which makes that solve cheap; training ends
    in it, and :meth:`from_arrays` turns tables from elsewhere.
    """

    kind: ClassVar[str] = "als"
    Config: ClassVar[type[ModelConfig]] = AlsConfig

    def __init__(
        self,
        user_UD: FloatArray,
        item_ID: FloatArray,
        popularity_I: FloatArray,
        weight_I: FloatArray,
        *,
        users: Vocabulary[UserId],
        vocabulary: Vocabulary[ItemId],
        config: AlsConfig,
        codes: Codes | None = None,
    ) -> None:
        self.user_UD = user_UD
        self.item_ID = item_ID
        self.popularity_I = popularity_I
        self.weight_I = weight_I
        self.users = users
        self.vocabulary = vocabulary
        self.config = config
        self._diagonal_D = squares(item_ID)
        self._codes = codes

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
        """Alternate between users and items; the same seed gives the same factors.

        Rows that ``start`` knows begin where it ended, if it has as many factors; that takes fewer epochs.
        """
        config = config or AlsConfig()
        popularity_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
        weight_UI, weight_I = discounted(pair_weights(interactions, config=config, at_ms=at_ms), config=config)
        users, items = both_sides(weight_UI, config=config)
        user_UD, item_ID = starting_tables(interactions, config=config, seed=seed, start=start)
        product_N = products(users, user_UD, item_ID)

        def ended(user_UD: FloatArray, item_ID: FloatArray, product_N: FloatArray | None = None) -> Any:
            user_UD, item_ID = half_epoch(users, user_UD, item_ID, config=config, product_N=product_N)
            people, vocabulary = interactions.users, interactions.items
            return cls(user_UD, item_ID, popularity_I, weight_I, users=people, vocabulary=vocabulary, config=config)

        for epoch in range(1, config.epochs + 1):
            user_UD, item_ID = half_epoch(users, user_UD, item_ID, config=config, product_N=product_N)
            item_ID, user_UD = half_epoch(items, item_ID, user_UD, config=config, product_N=product_N)
            if on_epoch is not None:
                # The users' Gram matrix is diagonal here, so the diagonals say all.
                loss = config.alpha0 * float(squares(user_UD) @ squares(item_ID)) + misfit(users, product_N)
                loss += length_cost(users, user_UD) + length_cost(items, item_ID)
                if on_epoch(Epoch(epoch, loss, partial(ended, user_UD, item_ID))):
                    break
        model: Self = ended(user_UD, item_ID, product_N)
        return model

    def basis(self, history: History) -> Basis:
        """Return what places this person among the items."""
        if history.user_id is not None and history.user_id in self.users:
            return Basis.PERSON
        known = any_known(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)
        return Basis.RECENT_ITEMS if known else Basis.POPULARITY

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

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the best items, by search among the items' factors."""
        factors_D = self.factors(history)
        if factors_D is None:
            return self.ranking.best(k=k, barred_I=barred_I, exclude=exclude)
        return self.nearest.search(factors_D, k=k, barred_I=barred_I, exclude=exclude)

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the items whose factors point the same way: the score is the cosine."""
        direction_D = self.directions[np.array([row])][0]
        return self.likeness.search(direction_D, k=k, barred_I=barred_I, exclude=exclude)

    @cached_property
    def ranking(self) -> Ranking:
        """The items by popularity."""
        return Ranking(self.popularity_I)

    @cached_property
    def nearest(self) -> NearestItems:
        """The items' factors, to be searched by products."""
        return NearestItems(self.item_ID, codes=self.codes())

    @cached_property
    def likeness(self) -> NearestItems:
        """The items' factors, to be searched by cosines."""
        return NearestItems(self.item_ID, length_I=lengths(self.item_ID), codes=self.codes())

    @property
    def directions(self) -> Directions:
        """Where the items stand, seen from the origin."""
        return Directions(self.item_ID)

    def codes(self) -> Codes:
        """Return the codes of the items' vectors."""
        if self._codes is None:
            self._codes = Codes.of(self.item_ID)
        return self._codes

    def with_codes(self, arrays: Mapping[str, AnyArray]) -> "Als":
        """Return the same model with the codes of its items' factors."""
        rest = (self.popularity_I, self.weight_I)
        return type(self)(
            self.user_UD,
            self.item_ID,
            *rest,
            users=self.users,
            vocabulary=self.vocabulary,
            config=self.config,
            codes=Codes.from_arrays(arrays, vector_ID=self.item_ID),
        )

    def factors(self, history: History) -> FloatArray | None:
        """Return where the person stands [D], or None where nothing is known."""
        return self.factors_of(self._mass(history), history.user_id)

    def factors_of(self, mass: ItemMass, user_id: UserId | None) -> FloatArray | None:
        """Return where a person with these items stands [D], or None where nothing is known."""
        if len(mass):
            return self.fold_in(mass)
        row = None if user_id is None else self.users.row(user_id)
        return None if row is None else self.user_UD[row]

    def fold_in(self, mass: ItemMass) -> FloatArray:
        """Solve for the factors [D] of a person with these items, at least one, exactly."""
        config = self.config
        near_HD = self.item_ID.take(mass.row_H, axis=0)
        weight_H = self.weight_I[mass.row_H] * mass.mass_H.astype(np.float64) ** config.mass_exponent
        weight_H *= len(mass) ** -config.user_discount
        pull = regularisation(np.array([len(mass)]), others=len(self.vocabulary), config=config)[0]
        return least_squares(near_HD, weight_H, config.alpha0 * self._diagonal_D + pull).astype(np.float32)

    def arrays(self) -> dict[str, AnyArray]:
        """Return both tables of factors, popularity, and what a pair weighs by its item."""
        return {
            "user_factors": self.user_UD,
            "item_factors": self.item_ID,
            "popularity": self.popularity_I,
            "item_weights": self.weight_I,
        }

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
            "item_weights": (len(vocabulary),),
        }
        check_arrays(arrays, shapes, kind=cls.kind)
        user_UD, item_ID = in_own_basis(arrays["user_factors"], arrays["item_factors"])
        rest = (arrays[name] for name in ("popularity", "item_weights"))
        return cls(user_UD, item_ID, *rest, users=users, vocabulary=vocabulary, config=config)

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


def discounted(weight_UI: csr_array, *, config: AlsConfig) -> tuple[csr_array, FloatArray]:
    """Return the weights with both discounts, as much in all as before, and each item's part of them [I].

    What few people have says more of a person's taste than what everybody has.
    """
    items_U = np.maximum(np.diff(weight_UI.indptr), 1)
    people_I = np.maximum(np.bincount(weight_UI.indices, minlength=weight_UI.shape[1]), 1)
    by_user_U, weight_I = items_U**-config.user_discount, people_I**-config.item_discount
    weight_N = weight_UI.data * np.repeat(by_user_U, np.diff(weight_UI.indptr)) * weight_I[weight_UI.indices]
    scale = weight_UI.data.sum(dtype=np.float64) / weight_N.sum()
    less_UI = csr_array(((weight_N * scale).astype(np.float32), weight_UI.indices, weight_UI.indptr), weight_UI.shape)
    return less_UI, (weight_I * scale).astype(np.float32)


def starting_tables(
    interactions: Interactions, *, config: AlsConfig, seed: int, start: Model | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return where training begins: zero for people, small random numbers for items, ``start``'s rows where it fits."""
    user_UD = np.zeros((len(interactions.users), config.factors), dtype=np.float32)
    scale = config.initial_scale / np.sqrt(config.factors)
    random = np.random.default_rng(seed)
    item_ID = random.normal(0.0, scale, (len(interactions.items), config.factors)).astype(np.float32)
    if isinstance(start, Als) and start.config.factors == config.factors:
        _copy_known(user_UD, start.users.rows(interactions.users.ids), start.user_UD)
        _copy_known(item_ID, start.vocabulary.rows(interactions.items.ids), start.item_ID)
    return user_UD, item_ID


def least_squares(near_HD: AnyArray, weight_H: AnyArray, diagonal_D: AnyArray) -> AnyArray:
    """Return the x [D] that minimises ``sum weight (1 - near x)^2 + sum diagonal x^2``, by one Cholesky factorisation.

    The system is as large as the smaller of H and D: with few items, x is a combination of their rows, and what is
    solved for is how much of each (the Woodbury identity).
    """
    root_H = np.sqrt(weight_H, dtype=np.float64)
    rows_HD = near_HD * root_H[:, None]
    if len(near_HD) > len(diagonal_D):
        system_DD = rows_HD.T @ rows_HD
        system_DD.flat[:: len(system_DD) + 1] += diagonal_D
        # It is symmetric; transposed, it stands as the solver wants it, which so needs no copy.
        _, solution_D, _ = lapack.dposv(system_DD.T, root_H @ rows_HD, overwrite_a=True)
        return np.asarray(solution_D)
    share_HD = rows_HD / diagonal_D
    system_HH = rows_HD @ share_HD.T
    system_HH.flat[:: len(system_HH) + 1] += 1.0
    _, share_H, _ = lapack.dposv(system_HH, root_H)
    return np.asarray(share_H @ share_HD)


def _copy_known(table_RD: FloatArray, row_R: RowArray, from_KD: FloatArray) -> None:
    table_RD[row_R >= 0] = from_KD[row_R[row_R >= 0]]
