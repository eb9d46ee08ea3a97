"""Popularity: what everybody does, counted with weights that halve with age. The same list for everyone."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.history import History
from bespoke.models.index import BoolArray, Ranking, Retrieved, top_k
from bespoke.vocabulary import Vocabulary


class PopularityConfig(ModelConfig):
    """How popularity counts."""

    half_life_days: float = Field(default=14.0, gt=0, le=3650, description="Age at which a line counts half.")


class Popularity:
    """Decayed counts over everybody. See :class:`bespoke.models.base.Model` for the interface."""

    kind: ClassVar[str] = "popularity"
    Config: ClassVar[type[ModelConfig]] = PopularityConfig
    defaults: ClassVar[PopularityConfig] = PopularityConfig()

    def __init__(
        self, popularity_I: FloatArray, *, vocabulary: Vocabulary[ItemId], config: PopularityConfig | None = None
    ) -> None:
        self.popularity_I = popularity_I
        self.vocabulary = vocabulary
        self.users: Vocabulary[UserId] = Vocabulary()
        self.config = config or PopularityConfig()

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: PopularityConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Count every item's lines; the other arguments have nothing to do here."""
        config = config or cls.defaults
        counts_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.half_life_days)
        return cls(counts_I, vocabulary=interactions.items, config=config)

    def basis(self, history: History) -> Basis:
        """Return that nothing personal is known."""
        return Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return the decayed counts [I]."""
        return self.popularity_I

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the first of the list."""
        return self.ranking.best(k=k, barred_I=barred_I, exclude=exclude)

    @cached_property
    def ranking(self) -> Ranking:
        """The items in the order that those get of whom nothing is known."""
        return Ranking(self.popularity_I)

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return the decayed counts for each history, [B, I]."""
        return np.broadcast_to(self.popularity_I, (len(histories), len(self.vocabulary)))

    def arrays(self) -> dict[str, AnyArray]:
        """Return the counts."""
        return {"popularity": self.popularity_I}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: PopularityConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        check_arrays(arrays, {"popularity": (len(vocabulary),)}, kind=cls.kind)
        return cls(arrays["popularity"], vocabulary=vocabulary, config=config)


def decayed_counts(interactions: Interactions, *, at_ms: int, half_life_days: float) -> FloatArray:
    """Return each item's total weight [I] as seen at ``at_ms``.

    Raises:
        TrainingError: there are no interactions.
    """
    interactions.require_some()
    weight_N = interactions.decayed_weights(at_ms=at_ms, half_life_days=half_life_days)
    counts_I = np.bincount(interactions.item_N, weights=weight_N, minlength=len(interactions.items))
    return counts_I.astype(np.float32)


def popular_in(model: Model, catalog: Catalog, *, category: str, k: int) -> list[ItemId]:
    """Return up to ``k`` items of a category, at any level of its path, the most popular one first.

    Args:
        model: of any kind; each counts what everybody does.
        catalog: items by id, such as those of the model's bundle.
        category: its name.
        k: how many at most; items that nobody took in the training window never come.
    """
    inside_I = [
        (item := catalog.get(item_id)) is not None and item.available and category in item.category
        for item_id in model.vocabulary.ids
    ]
    ranked_I = np.where(inside_I, model.popularity_I, -np.inf).astype(np.float32)
    ranked_I[ranked_I <= 0] = -np.inf
    return [model.vocabulary.ids[row] for row in top_k(ranked_I, k=k)]
