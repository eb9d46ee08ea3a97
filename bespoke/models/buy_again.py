"""buy_again: what the person does most, counted with weights that halve with age; then what everybody does."""

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic import Field

from bespoke.events import ItemId
from bespoke.models.arrays import FloatArray, RowArray
from bespoke.models.base import Basis, ModelConfig
from bespoke.models.history import History, ItemMass, any_known, item_mass
from bespoke.models.index import BoolArray, Ranking, Retrieved
from bespoke.models.popularity import Popularity, PopularityConfig
from bespoke.vocabulary import Vocabulary

TIE = 1e-3
"""Of two items that a person did equally often, the more popular one gains this share."""


class BuyAgainConfig(PopularityConfig):
    """How personal frequency and popularity count."""

    personal_half_life_days: float = Field(
        default=90.0, gt=0, le=3650, description="Age at which a line of the person's own counts half."
    )


class BuyAgain(Popularity):
    """Personal frequency, then popularity. See :class:`bespoke.models.base.Model` for the interface.

    It keeps nothing per person: the frequency is taken from the history at the moment of scoring.
    """

    kind: ClassVar[str] = "buy_again"
    Config: ClassVar[type[ModelConfig]] = BuyAgainConfig
    defaults: ClassVar[PopularityConfig] = BuyAgainConfig()

    config: BuyAgainConfig

    def __init__(
        self, popularity_I: FloatArray, *, vocabulary: Vocabulary[ItemId], config: PopularityConfig | None = None
    ) -> None:
        super().__init__(popularity_I, vocabulary=vocabulary, config=config or self.defaults)
        self._share_I = popularity_I / max(popularity_I.max(initial=0.0), np.finfo(np.float32).tiny)

    def basis(self, history: History) -> Basis:
        """Return whether the person did anything with a known item."""
        known = any_known(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)
        return Basis.PERSON if known else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return scores [I]: the person's own items lie above 0 by frequency, all others below 0 by popularity."""
        mass = self._mass(history)
        scores_I: FloatArray = self._share_I - np.float32(2.0)
        scores_I[mass.row_H] = self._own(mass)
        return scores_I

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the person's own items, then the first of the list."""
        mass = self._mass(history)
        return self.ranking.best_with(mass.row_H, self._own(mass), k=k, barred_I=barred_I, exclude=exclude)

    @cached_property
    def ranking(self) -> Ranking:
        """The items in the order that those get of whom nothing is known."""
        return Ranking(self._share_I - np.float32(2.0))

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I]."""
        scores_BI = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        for row, history in enumerate(histories):
            scores_BI[row] = self.scores(history)
        return scores_BI

    def _own(self, mass: ItemMass) -> FloatArray:
        """Return the scores of the person's own items."""
        own_H: FloatArray = mass.mass_H * (1 + TIE * self._share_I[mass.row_H])
        return own_H

    def _mass(self, history: History) -> ItemMass:
        return item_mass(
            history,
            vocabulary=self.vocabulary,
            weights=self.config.interaction_weights,
            half_life_days=self.config.personal_half_life_days,
        )
