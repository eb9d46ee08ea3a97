"""covisitation: what others visited around the items of the current session; the latest items count most.

Training keeps, for every item, the items that the same people visited shortly before or after it. Scoring adds up these
neighbours over the person's latest visits, newest first. A visit costs one look at a small table, and nothing is kept
of people: whoever has done one thing gets a list of their own, and the next click changes it.

Source: Kersbergen, Sprangers, Schelter 2022, "Serenade: Low-Latency Session-Based Recommendation in e-Commerce at
Scale" (sessions, decay by position); Ludewig, Jannach 2018, "Evaluation of Session-based Recommendation Algorithms"
(simple neighbourhoods against learned models).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.clock import MINUTE_MS
from bespoke.errors import BundleError
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.covisitation_pairs import pair_totals, strongest, walk
from bespoke.models.history import History, ItemMass, any_known, decayed
from bespoke.models.index import BoolArray, Ranking, Retrieved, allowed, best_among
from bespoke.models.popularity import decayed_counts
from bespoke.vocabulary import Vocabulary

TIE = 1e-6
"""What the share of the most popular item's count adds: it orders items that no visit points to."""


class CovisitationConfig(ModelConfig):
    """How visits become neighbours, and how the latest visits count."""

    session_gap_minutes: float = Field(
        default=30.0, gt=0, le=525_600, description="A session ends where a person does nothing for longer."
    )
    window: int = Field(default=10, ge=1, le=100, description="Visits at most so far apart make a pair.")
    step_decay: float = Field(default=0.8, gt=0, le=1, description="A pair counts this much less per step between.")
    across_sessions: float = Field(
        default=0.3, ge=0, le=1, description="What a pair or a visit counts beyond the end of a session."
    )
    backward: float = Field(default=1.0, ge=0, le=1, description="What an item counts that came before, not after.")
    weight_exponent: float = Field(
        default=0.25, ge=0, le=1, description="A visit counts its line's weight to this power; 0 counts once."
    )
    support_exponent: float = Field(
        default=0.5, ge=0, le=1, description="Counts are divided by the visited item's own to this power."
    )
    popularity_exponent: float = Field(
        default=0.0, ge=0, le=1, description="Counts are divided by the neighbour's own to this power."
    )
    neighbours: int = Field(default=100, ge=1, le=1000, description="Kept per item.")
    half_life_days: float = Field(
        default=0.0, ge=0, le=3650, description="Age at which a pair counts half; 0 for never."
    )
    recency_decay: float = Field(
        default=0.6, gt=0, le=1, description="A visit counts this much less than the one after it, when scoring."
    )
    visits: int = Field(default=20, ge=1, le=200, description="The latest visits that scoring looks at.")
    repeat: float = Field(
        default=1.0, ge=0, le=100, description="What a visit counts for its own item; 0 leaves that to the pairs."
    )
    popularity_half_life_days: float = Field(
        default=14.0, gt=0, le=3650, description="Age at which a line counts half for popularity."
    )


class Covisitation:
    """Items by the items visited around them. See :class:`bespoke.models.base.Model` for the interface.

    K is the number of neighbours per item, S the visits of one history.
    """

    kind: ClassVar[str] = "covisitation"
    Config: ClassVar[type[ModelConfig]] = CovisitationConfig

    def __init__(
        self,
        neighbour_IK: RowArray,
        strength_IK: FloatArray,
        popularity_I: FloatArray,
        *,
        vocabulary: Vocabulary[ItemId],
        config: CovisitationConfig,
    ) -> None:
        self.neighbour_IK: RowArray = np.ascontiguousarray(neighbour_IK, dtype=np.int32)
        self.strength_IK: FloatArray = np.ascontiguousarray(strength_IK, dtype=np.float32)
        self.popularity_I = popularity_I
        self.vocabulary = vocabulary
        self.users: Vocabulary[UserId] = Vocabulary()
        self.config = config
        self._tie_I: FloatArray = popularity_I * np.float32(
            TIE / max(popularity_I.max(initial=0.0), np.finfo(np.float32).tiny)
        )

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: CovisitationConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Count pairs of visits; nothing is random, and the other arguments have nothing to do here."""
        config = config or CovisitationConfig()
        popularity_I = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
        neighbour_IK, strength_IK = strongest(_strengths(interactions, config, at_ms), neighbours=config.neighbours)
        return cls(neighbour_IK, strength_IK, popularity_I, vocabulary=interactions.items, config=config)

    def basis(self, history: History) -> Basis:
        """Return whether the person did anything with a known item."""
        known = any_known(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)
        return Basis.RECENT_ITEMS if known else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return scores [I]: the neighbours of the latest visits, then what is popular."""
        latest = self.latest(history)
        if not len(latest):
            return self.popularity_I
        near_SK = self.strength_IK[latest.row_H] * latest.mass_H[:, None]
        sums_I = np.bincount(
            self.neighbour_IK[latest.row_H].ravel(), weights=near_SK.ravel(), minlength=len(self.vocabulary)
        )
        scores_I: FloatArray = sums_I.astype(np.float32)
        np.add.at(scores_I, latest.row_H, self.config.repeat * latest.mass_H)
        scores_I += self._tie_I
        return scores_I

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the best neighbours of the latest visits, then what is popular."""
        from bespoke.models.retrieval_kernel import neighbours

        latest = self.latest(history)
        if not len(latest):
            return self.popular.best(k=k, barred_I=barred_I, exclude=exclude)
        row_C, score_C = neighbours(
            self.neighbour_IK, self.strength_IK, latest.row_H, latest.mass_H, self._tie_I, self.config.repeat
        )
        return self.ranking.best_with(row_C, score_C, k=k, barred_I=barred_I, exclude=exclude)

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the neighbours that training kept; the score is how strongly the item points to them."""
        row_K, strength_K = self.neighbour_IK[row], self.strength_IK[row]
        kept_K = allowed(row_K, barred_I=barred_I, exclude=exclude) & (strength_K > 0)
        return best_among(row_K[kept_K], strength_K[kept_K], k=k)

    @cached_property
    def popular(self) -> Ranking:
        """The items by popularity."""
        return Ranking(self.popularity_I)

    @cached_property
    def ranking(self) -> Ranking:
        """The items in the order that they have where no visit points to any."""
        return Ranking(self._tie_I)

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I]."""
        scores_BI = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        for row, history in enumerate(histories):
            scores_BI[row] = self.scores(history)
        return scores_BI

    def latest(self, history: History) -> ItemMass:
        """Return the latest visits to known items, newest first, and what each counts.

        Those of the newest session count ``recency_decay`` to the number of steps after them; those of the sessions
        before count ``across_sessions`` times that. Lines of one moment are one step.
        """
        if not history.recent:
            return ItemMass()
        from bespoke.models.history_kernel import newest_visits

        config, columns = self.config, history.columns
        visits = newest_visits(
            columns.rows(self.vocabulary),
            history.weight_of(columns, config.interaction_weights),
            columns.at_ms_N,
            config.visits,
            config.session_gap_minutes * MINUTE_MS,
            config.weight_exponent,
            config.recency_decay,
            config.across_sessions,
        )
        return ItemMass(*visits)

    def arrays(self) -> dict[str, AnyArray]:
        """Return the neighbours, how strong they are, and popularity.

        A bundle holds float32 alone. Rows are kept bit by bit, so that reading them back costs no copy; the bits of a
        row below 2**31 - 2**23 are those of a finite number.
        """
        return {
            "neighbour_bits": self.neighbour_IK.view(np.float32),
            "strength": self.strength_IK,
            "popularity": self.popularity_I,
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: CovisitationConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        items = len(vocabulary)
        table = (items, min(config.neighbours, items))
        check_arrays(arrays, {"neighbour_bits": table, "strength": table, "popularity": (items,)}, kind=cls.kind)
        neighbour_IK = arrays["neighbour_bits"].view(np.int32)
        if neighbour_IK.size and not 0 <= neighbour_IK.min() <= neighbour_IK.max() < items:
            raise BundleError(f"a {cls.kind} model of {items} items names the rows up to {neighbour_IK.max()}")
        return cls(neighbour_IK, arrays["strength"], arrays["popularity"], vocabulary=vocabulary, config=config)


def _strengths(interactions: Interactions, config: CovisitationConfig, at_ms: int) -> csr_array:
    """Return how strongly each item [I] points to each other one [I]."""
    visits = walk(interactions, gap_minutes=config.session_gap_minutes)
    value_N = visits.weight_N**config.weight_exponent
    # A pair counts the product of two values; the square root makes its age count once.
    age_N = decayed(np.ones_like(value_N), visits.at_ms_N, at_ms=at_ms, half_life_days=config.half_life_days or None)
    total_II = pair_totals(
        visits,
        value_N * np.sqrt(age_N),
        items=len(interactions.items),
        window=config.window,
        step_decay=config.step_decay,
        across_sessions=config.across_sessions,
    )
    total_II = csr_array(total_II + config.backward * total_II.T.tocsr())
    count_I = np.maximum(np.bincount(visits.item_N, minlength=len(interactions.items)), 1).astype(np.float32)
    from_P = np.repeat(np.arange(len(count_I)), np.diff(total_II.indptr))
    total_II.data /= (
        count_I[from_P] ** config.support_exponent * count_I[total_II.indices] ** config.popularity_exponent
    )
    return total_II
