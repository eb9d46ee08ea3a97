"""buy_again: what the person does most, counted with weights that halve with age; then what everybody does."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from bespoke.events import ItemId, UserId
from bespoke.models.base import (
    AnyArray,
    Basis,
    FloatArray,
    History,
    Interactions,
    ItemMass,
    ModelConfig,
    OnEpoch,
    Vocabulary,
    check_arrays,
    item_mass,
)
from bespoke.models.popularity import PopularityConfig, decayed_counts

TIE = 1e-3
"""Of two items that a person did equally often, the more popular one gains this share."""


class BuyAgainConfig(PopularityConfig):
    """How personal frequency and popularity count."""

    personal_half_life_days: float = Field(
        default=90.0, gt=0, le=3650, description="Age at which a line of the person's own counts half."
    )


class BuyAgain:
    """Personal frequency, then popularity. See :class:`bespoke.models.base.Model` for the interface.

    It keeps nothing per person: the frequency is taken from the history at the moment of scoring.
    """

    kind: ClassVar[str] = "buy_again"
    Config: ClassVar[type[ModelConfig]] = BuyAgainConfig

    def __init__(
        self, popularity_I: FloatArray, *, vocabulary: Vocabulary[ItemId], config: BuyAgainConfig | None = None
    ) -> None:
        self.popularity_I = popularity_I
        self.vocabulary = vocabulary
        self.users: Vocabulary[UserId] = Vocabulary()
        self.config = config or BuyAgainConfig()
        self._share_I = popularity_I / max(popularity_I.max(initial=0.0), np.finfo(np.float32).tiny)

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: BuyAgainConfig | None = None,
        at_ms: int,
        seed: int = 0,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Count popularity; ``seed`` and ``on_epoch`` have nothing to do here."""
        config = config or BuyAgainConfig()
        counts_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.half_life_days)
        return cls(counts_I, vocabulary=interactions.items, config=config)

    def basis(self, history: History) -> Basis:
        """Return whether the person did anything with a known item."""
        return Basis.PERSON if len(self._mass(history)) else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return scores [I]: the person's own items lie above 0 by frequency, all others below 0 by popularity."""
        mass = self._mass(history)
        scores_I: FloatArray = self._share_I - np.float32(2.0)
        scores_I[mass.row_H] = mass.mass_H * (1 + TIE * self._share_I[mass.row_H])
        return scores_I

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I]."""
        scores_BI = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        for row, history in enumerate(histories):
            scores_BI[row] = self.scores(history)
        return scores_BI

    def arrays(self) -> dict[str, AnyArray]:
        """Return popularity, which is all that was learned."""
        return {"popularity": self.popularity_I}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: BuyAgainConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        check_arrays(arrays, {"popularity": (len(vocabulary),)}, kind=cls.kind)
        return cls(arrays["popularity"], vocabulary=vocabulary, config=config)

    def _mass(self, history: History) -> ItemMass:
        return item_mass(
            history,
            vocabulary=self.vocabulary,
            weights=self.config.interaction_weights,
            half_life_days=self.config.personal_half_life_days,
        )
