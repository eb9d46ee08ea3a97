"""blend: personal frequency, als and popularity in one score, with weights learned on what people did next.

score = w_personal sqrt(mass) + w_als (x·y) + w_popularity sqrt(count / highest count), where mass is the decayed weight
of the person's own lines about the item. The square root tames heavy repetition: the tenth purchase says less than the
second. Measured on grocery baskets against the plain mass, its logarithm and scaling per person, it was level with the
best and needs no statistic of the person; als scores estimate a preference between 0 and 1 and stay as they are.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.base import (
    AnyArray,
    Basis,
    FloatArray,
    History,
    Interactions,
    Model,
    ModelConfig,
    OnEpoch,
    Vocabulary,
    check_arrays,
    item_mass,
)
from bespoke.models.index import top_k

SOURCES = ("personal", "als", "popularity")
DEFAULT_WEIGHTS = (1.0, 0.2, 0.8)
POOL = 200
"""How many items of als and of popularity take part when weights are learned; the person's own always do."""

_ALS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_POPULARITY = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.4, 2.0)
WEIGHT_GRID = (
    *((1.0, als, popularity) for als in _ALS for popularity in _POPULARITY),
    *((0.0, 1.0, popularity) for popularity in (0.0, 0.1, 0.3, 1.0, 3.0)),
)
"""The weights that learning tries, in the order of SOURCES; the last ones suit data where nobody repeats anything."""

Case = tuple[History, Set[ItemId]]
"""What was known of a person, and the items of the basket that followed."""


class BlendConfig(AlsConfig):
    """What als trains with, and how personal frequency counts."""

    personal_half_life_days: float = Field(
        default=90.0, gt=0, le=3650, description="Age at which a line of the person's own counts half."
    )


class Blend:
    """The weighted sum of three sources. See :class:`bespoke.models.base.Model` for the interface."""

    kind: ClassVar[str] = "blend"
    Config: ClassVar[type[ModelConfig]] = BlendConfig

    def __init__(self, als: Als, *, config: BlendConfig, weights_S: FloatArray | None = None) -> None:
        self.als = als
        self.config = config
        self.weights_S = np.array(DEFAULT_WEIGHTS if weights_S is None else weights_S, dtype=np.float32)
        self.vocabulary, self.users, self.popularity_I = als.vocabulary, als.users, als.popularity_I
        self._popular_I = np.sqrt(als.popularity_I / max(als.popularity_I.max(initial=0.0), np.finfo(np.float32).tiny))

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: BlendConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train als; the weights are the default ones until :meth:`with_learned_weights`."""
        config = config or BlendConfig()
        als = Als.fit(interactions, config=config, at_ms=at_ms, seed=seed)
        return cls(als, config=config)

    def with_weights(self, weights_S: FloatArray) -> Self:
        """Return the same model with these weights, in the order of SOURCES."""
        return type(self)(self.als, config=self.config, weights_S=weights_S)

    def with_learned_weights(self, validation: Sequence[Case], *, k: int = 20) -> Self:
        """Return the same model with the weights of WEIGHT_GRID that give the best mean NDCG at ``k``.

        Args:
            validation: cases from after the training window; what is learned carries over to a model that is then
                trained up to the present, by :meth:`with_weights`.
            k: length of the lists.

        Raises:
            TrainingError: there are no cases.
        """
        if not validation:
            raise TrainingError("no baskets to learn blend weights on; leave a few days of them out of the window")
        pools = [self._pool(history, relevant) for history, relevant in validation]
        best = max(WEIGHT_GRID, key=lambda weights: _mean_ndcg(pools, np.array(weights, dtype=np.float32), k=k))
        return self.with_weights(np.array(best, dtype=np.float32))

    def basis(self, history: History) -> Basis:
        """Return what als rests on; it knows the same items as personal frequency does."""
        return self.als.basis(history)

    def scores(self, history: History) -> FloatArray:
        """Return the weighted sum [I]."""
        return self._blended(history, self.als.scores(history))

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I]."""
        scores_BI = self.als.scores_batch(histories)
        for row, history in enumerate(histories):
            scores_BI[row] = self._blended(history, scores_BI[row])
        return scores_BI

    def arrays(self) -> dict[str, AnyArray]:
        """Return als's arrays and the weights."""
        return {**self.als.arrays(), "source_weights": self.weights_S}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: BlendConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        own = {name: array for name, array in arrays.items() if name == "source_weights"}
        check_arrays(own, {"source_weights": (len(SOURCES),)}, kind=cls.kind)
        rest = {name: array for name, array in arrays.items() if name not in own}
        als = Als.from_arrays(rest, vocabulary=vocabulary, users=users, config=config)
        return cls(als, config=config, weights_S=own["source_weights"])

    def _blended(self, history: History, als_I: FloatArray) -> FloatArray:
        if self.als.basis(history) is Basis.POPULARITY:
            return self.popularity_I
        personal, als, popularity = self.weights_S
        row_H, value_H = self._personal(history)
        scores_I: FloatArray = als * als_I + popularity * self._popular_I
        scores_I[row_H] += personal * value_H
        return scores_I

    def _personal(self, history: History) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """Return the rows of the person's own items and the square root of their mass."""
        mass = item_mass(
            history,
            vocabulary=self.vocabulary,
            weights=self.config.interaction_weights,
            half_life_days=self.config.personal_half_life_days,
        )
        return mass.row_H, np.sqrt(mass.mass_H)

    def _pool(self, history: History, relevant: Set[ItemId]) -> "_Pool":
        row_H, value_H = self._personal(history)
        als_I = self.als.scores(history)
        if self.als.basis(history) is Basis.POPULARITY:
            als_I = self._popular_I
        row_C = np.unique(np.concatenate([row_H, top_k(als_I, k=POOL), top_k(self._popular_I, k=POOL)]))
        personal_C = np.zeros(len(row_C), dtype=np.float32)
        personal_C[np.searchsorted(row_C, row_H)] = value_H
        return _Pool(
            source_SC=np.stack([personal_C, als_I[row_C], self._popular_I[row_C]]),
            relevant_C=np.isin(row_C, self.vocabulary.rows(relevant)),
            relevant=len(relevant),
        )


@dataclass(frozen=True, slots=True)
class _Pool:
    """The items that could come first for one case, C of them, with each source's score."""

    source_SC: FloatArray
    relevant_C: npt.NDArray[np.bool_]
    relevant: int


def _mean_ndcg(pools: Sequence[_Pool], weights_S: FloatArray, *, k: int) -> float:
    discount_K = 1.0 / np.log2(np.arange(2, k + 2))
    ideal_K = np.cumsum(discount_K)
    total = 0.0
    for pool in pools:
        hits = pool.relevant_C[top_k(weights_S @ pool.source_SC, k=k)]
        total += float(discount_K[: len(hits)] @ hits) / float(ideal_K[min(k, pool.relevant) - 1])
    return total / len(pools)
