"""content: items by what the catalog says of them, for items and people that nobody has seen much of yet.

score = similarity x cosine(person, item) + repeat x own share + demand x expected demand, where a person is the decayed
mean of their items' vectors. Expected demand is what an item sold per day since it appeared, drawn towards what
its category, words, brand and price let expect: the fewer days an item was seen, the further. So a new item inherits
the demand of items like it, and gets its own as it is seen.

Source: Pazzani, Billsus 2007, "Content-Based Recommendation Systems" (TF-IDF, person as mean of items); Efron, Morris
1975, "Data Analysis Using Stein's Estimator and its Generalizations" (drawing rates towards what is expected of them).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.clock import DAY_MS
from bespoke.errors import BundleError
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.content_terms import FIELDS, expected, term_vectors
from bespoke.models.history import History, ItemMass, any_known, item_mass
from bespoke.models.index import NOBODY, BoolArray, Ranking, Retrieved, best_of
from bespoke.models.popularity import decayed_counts
from bespoke.vocabulary import Vocabulary

TINY = float(np.finfo(np.float32).tiny)


class ContentConfig(ModelConfig):
    """How items are described, and how likeness, repetition and demand count."""

    category_weight: float = Field(default=1.0, ge=0, le=100, description="What a level of the category path counts.")
    word_weight: float = Field(default=0.5, ge=0, le=100, description="What a word of name or text counts.")
    brand_weight: float = Field(default=0.5, ge=0, le=100, description="What the brand counts.")
    price_weight: float = Field(default=0.25, ge=0, le=100, description="What the price bucket counts.")
    terms: int = Field(default=64, ge=1, le=1000, description="Terms kept per item, the heaviest ones.")
    half_life_days: float = Field(
        default=60.0, ge=0, le=3650, description="Age at which a line of the person's own counts half; 0 for no ageing."
    )
    mass_exponent: float = Field(
        default=0.5, ge=0, le=1, description="An item counts its lines' weight to this power; 0 counts once."
    )
    similarity: float = Field(default=0.1, ge=0, le=100, description="What likeness to the person's items counts.")
    repeat: float = Field(default=0.8, ge=0, le=100, description="What the person's own items count.")
    demand: float = Field(default=1.0, ge=0, le=100, description="What an item's expected demand counts.")
    demand_days: float = Field(
        default=5.0, gt=0, le=3650, description="Days of sale after which an item's own demand counts half."
    )
    demand_strength: float = Field(
        default=3.0, gt=0, le=10_000, description="Pull towards the mean when demand is learned from descriptions."
    )
    popularity_half_life_days: float = Field(
        default=14.0, gt=0, le=3650, description="Age at which a line counts half for popularity."
    )


class Content:
    """Items by their descriptions. See :class:`bespoke.models.base.Model` for the interface.

    T is the number of terms, P that of pairs of an item and a term. Without a catalog there are no terms: demand and
    the person's own items are left.
    """

    kind: ClassVar[str] = "content"
    Config: ClassVar[type[ModelConfig]] = ContentConfig

    def __init__(
        self,
        vector_IT: csr_array,
        demand_I: FloatArray,
        popularity_I: FloatArray,
        *,
        vocabulary: Vocabulary[ItemId],
        config: ContentConfig,
    ) -> None:
        self.vector_IT: csr_array = csr_array(
            (
                np.ascontiguousarray(vector_IT.data, dtype=np.float32),
                np.ascontiguousarray(vector_IT.indices, dtype=np.int32),
                np.ascontiguousarray(vector_IT.indptr, dtype=np.int32),
            ),
            shape=vector_IT.shape,
        )
        self.demand_I = demand_I
        self.popularity_I = popularity_I
        self.vocabulary = vocabulary
        self.users: Vocabulary[UserId] = Vocabulary()
        self.config = config
        self._base_I: FloatArray = demand_I if config.demand == 1.0 else config.demand * demand_I
        """What everybody gets of each item."""

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: ContentConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Describe all items of the catalog and of the interactions; nothing is random."""
        config = config or ContentConfig()
        counts = decayed_counts(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
        vocabulary = Vocabulary(sorted({*interactions.items.ids, *catalog}))
        seen_rows = vocabulary.rows(interactions.items.ids)
        popularity_I = np.zeros(len(vocabulary), dtype=np.float32)
        popularity_I[seen_rows] = counts
        vector_IT = term_vectors(
            [catalog.get(id) for id in vocabulary.ids],
            weights={field: getattr(config, f"{field}_weight") for field in FIELDS},
            limit=config.terms,
        )
        days_I = np.zeros(len(vocabulary), dtype=np.float32)
        days_I[seen_rows] = days_on_sale(interactions, at_ms=at_ms, half_life_days=config.popularity_half_life_days)
        demand_I = expected_demand(vector_IT, popularity_I, days_I, config=config)
        return cls(vector_IT, demand_I, popularity_I, vocabulary=vocabulary, config=config)

    def basis(self, history: History) -> Basis:
        """Return whether the person did anything with a known item."""
        known = any_known(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)
        return Basis.RECENT_ITEMS if known else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return the weighted sum [I]."""
        mass = self._mass(history)
        config = self.config
        if not len(mass):
            return self.demand_I
        value_H = mass.mass_H**config.mass_exponent
        scores_I: FloatArray = self._base_I.copy()
        if self.vector_IT.shape[1]:
            scores_I += self.vector_IT @ self._wanted(mass.row_H, value_H)
        scores_I[mass.row_H] += config.repeat * value_H
        return scores_I

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the best items; likeness is looked at only where it can lift an item among them."""
        from bespoke.models.retrieval_kernel import alike

        config, mass, vector_IT = self.config, self._mass(history), self.vector_IT
        if not len(mass):
            return self.popular.best(k=k, barred_I=barred_I, exclude=exclude)
        value_H: FloatArray = mass.mass_H**config.mass_exponent
        found = alike(
            self.ranking.order_I,
            self.ranking.score_I,
            mass.row_H,
            value_H,
            vector_IT.indptr,
            vector_IT.indices,
            vector_IT.data,
            NOBODY if barred_I is None else barred_I,
            exclude,
            vector_IT.shape[1],
            config.similarity,
            config.repeat,
            k,
        )
        return Retrieved(*found)

    @cached_property
    def popular(self) -> Ranking:
        """The items by expected demand."""
        return Ranking(self.demand_I)

    @cached_property
    def ranking(self) -> Ranking:
        """The items by what everybody gets of them."""
        return self.popular if self._base_I is self.demand_I else Ranking(self._base_I)

    def _wanted(self, row_H: RowArray, value_H: FloatArray) -> FloatArray:
        """Return what each term of an item adds to its score [T] for a person who has some items."""
        person_T: AnyArray = self.vector_IT[row_H].T @ value_H.astype(np.float64)
        length = math.sqrt(float(person_T @ person_T))
        wanted_T: FloatArray = (self.config.similarity / max(length, TINY) * person_T).astype(np.float32)
        return wanted_T

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the items that share terms; the score is the cosine of their descriptions."""
        cosine_I = (self.vector_IT @ self.vector_IT[[row]].toarray()[0]).astype(np.float32)
        cosine_I[cosine_I <= 0] = -np.inf
        return best_of(cosine_I, k=k, barred_I=barred_I, exclude=exclude)

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I]."""
        scores_BI = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        for row, history in enumerate(histories):
            scores_BI[row] = self.scores(history)
        return scores_BI

    def arrays(self) -> dict[str, AnyArray]:
        """Return the vectors, demand and popularity.

        A bundle holds float32 alone. Rows and starts are kept bit by bit, so that reading them back costs no copy; the
        bits of a number below 2**31 - 2**23 are those of a finite float.
        """
        shape = np.array(self.vector_IT.shape[1:], dtype=np.int32)
        return {
            "term_bits": self.vector_IT.indices.astype(np.int32).view(np.float32),
            "start_bits": self.vector_IT.indptr.astype(np.int32).view(np.float32),
            "terms_bits": shape.view(np.float32),
            "weight": self.vector_IT.data.astype(np.float32),
            "demand": self.demand_I,
            "popularity": self.popularity_I,
        }

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: ContentConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        items = len(vocabulary)
        pairs = arrays["weight"].shape if "weight" in arrays else (0,)
        shapes = {"term_bits": pairs, "weight": pairs, "start_bits": (items + 1,), "terms_bits": (1,)}
        check_arrays(arrays, {**shapes, "demand": (items,), "popularity": (items,)}, kind=cls.kind)
        term_P, start_I, terms = (arrays[name].view(np.int32) for name in ("term_bits", "start_bits", "terms_bits"))
        if not _fit(term_P, start_I, terms=int(terms[0])):
            raise BundleError(f"a {cls.kind} model's terms do not fit: {len(term_P)} of {items} items")
        vector_IT = csr_array((arrays["weight"], term_P, start_I), shape=(items, int(terms[0])))
        return cls(vector_IT, arrays["demand"], arrays["popularity"], vocabulary=vocabulary, config=config)

    def _mass(self, history: History) -> ItemMass:
        return item_mass(
            history,
            vocabulary=self.vocabulary,
            weights=self.config.interaction_weights,
            half_life_days=self.config.half_life_days or None,
        )


def days_on_sale(interactions: Interactions, *, at_ms: int, half_life_days: float) -> FloatArray:
    """Return the days [I] since each item's first line, each counting half every half-life, as the lines do."""
    first_ms_I = np.full(len(interactions.items), at_ms, dtype=np.int64)
    np.minimum.at(first_ms_I, interactions.item_N, interactions.at_ms_N)
    age_days_I = np.maximum(at_ms - first_ms_I, 0) / DAY_MS
    days_I: FloatArray = (half_life_days / np.log(2) * -np.expm1(-np.log(2) * age_days_I / half_life_days)).astype("f4")
    return days_I


def expected_demand(
    vector_IT: csr_array, count_I: FloatArray, days_I: FloatArray, *, config: ContentConfig
) -> FloatArray:
    """Return what is expected of each item [I], 0 to 1: the square root of its share of the highest daily rate.

    The rate is that of the item's own lines and of ``demand_days`` more at the rate that its terms let expect.
    """
    seen_I = days_I > 0
    own_S = np.log((count_I[seen_I] + TINY) / np.maximum(days_I[seen_I], 1.0))
    like_I = np.exp(expected(vector_IT, own_S, seen_I=seen_I, strength=config.demand_strength))
    rate_I = (count_I + config.demand_days * like_I) / (days_I + config.demand_days)
    demand_I: FloatArray = np.sqrt(rate_I / max(float(rate_I.max(initial=0.0)), TINY)).astype(np.float32)
    return demand_I


def _fit(term_P: AnyArray, start_I: AnyArray, *, terms: int) -> bool:
    rising = start_I[0] == 0 and start_I[-1] == len(term_P) and bool((np.diff(start_I) >= 0).all())
    return rising and (not len(term_P) or 0 <= int(term_P.min()) <= int(term_P.max()) < terms)
