"""blend: personal frequency, rebuy rates, als and popularity in one order, learned on what people did next.

First a weighted sum over all items::

    score = (w_personal + w_rebuy rebuy) sqrt(mass) + w_als (x·y) + w_popularity sqrt(count / highest count)

where mass is the decayed weight of the person's own lines about the item, rebuy the share of the item's people who came
back to it, and the weights are those for the person's amount of history. The square root tames heavy repetition: the
tenth purchase says less than the second. Where there was enough to learn from, the values of boosted trees are added to
the sums of the first candidates; they see what a sum cannot, such as that what was bought yesterday is not due yet.
Measured on grocery baskets: the rebuy rate gains most, trees alone are level with the sum, both together beat either.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
from pydantic import Field

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als, AlsConfig
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.blend_learning import Case, Learned, Person, learn, taken_and_gain
from bespoke.models.blend_sources import (
    BUCKETS,
    FEATURES,
    SOURCES,
    Own,
    features_of,
    own_items,
    own_sum,
    rebuy_rates,
    sources_of,
    weighted_sum,
)
from bespoke.models.blend_trees import checked_trees
from bespoke.models.history import History, KnownLines, known_lines
from bespoke.models.index import EMPTY, BoolArray, Retrieved, allowed, best_among, top_k
from bespoke.models.nearest import Codes, Directions, NearestItems
from bespoke.vocabulary import Vocabulary

POOL = 100
"""How many items of als, of popularity and of the person's own take part when weights are learned."""
OWN_ARRAYS = ("rebuy", "source_weights", "trees")


class BlendConfig(AlsConfig):
    """What als trains with, how personal frequency counts, and how much may be learned."""

    personal_half_life_days: float = Field(
        default=90.0, gt=0, le=3650, description="Age at which a line of the person's own counts half."
    )
    recent_half_life_days: float = Field(
        default=14.0, gt=0, le=3650, description="The same for what the person did lately, which trees look at."
    )
    trees: int = Field(
        default=100, ge=0, le=1000, description="At most so many trees order the candidates; 0 for none."
    )
    candidates: int = Field(default=100, ge=20, le=1000, description="How many items trees put in order.")


class Blend:
    """The weighted sum of four sources, and trees over its best. See :class:`bespoke.models.base.Model`."""

    kind: ClassVar[str] = "blend"
    Config: ClassVar[type[ModelConfig]] = BlendConfig

    def __init__(self, als: Als, rebuy_I: FloatArray, *, config: BlendConfig, learned: Learned | None = None) -> None:
        self.als = als
        self.rebuy_I = rebuy_I
        self.config = config
        self.learned = learned or Learned.default()
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
        """Train als and count; the weights are the default ones until :meth:`with_learned_weights`."""
        config = config or BlendConfig()
        als = Als.fit(interactions, config=config, at_ms=at_ms, seed=seed)
        return cls(als, rebuy_rates(interactions), config=config)

    def with_learned(self, learned: Learned) -> Self:
        """Return the same model with what another one of its kind learned."""
        return type(self)(self.als, self.rebuy_I, config=self.config, learned=learned)

    def with_learned_weights(self, validation: Sequence[Case], *, k: int = 20, seed: int = 0) -> Self:
        """Return the same model with the weights and trees that suit these cases.

        Args:
            validation: cases from after the training window; what is learned carries over to a model that is then
                trained up to the present, by :meth:`with_learned`. Cases of one history object are one person's.
            k: length of the lists.
            seed: see :func:`bespoke.models.blend_learning.learn`.

        Raises:
            TrainingError: there are no cases.
        """
        if not validation:
            raise TrainingError("no baskets to learn blend weights on; leave a few days of them out of the window")
        of_history: dict[int, list[Case]] = {}
        for case in validation:
            of_history.setdefault(id(case[0]), []).append(case)
        known = [cases for cases in of_history.values() if self.basis(cases[0][0]) is not Basis.POPULARITY]
        people = [self._person(cases, k=k) for cases in known]
        config = self.config
        return self.with_learned(learn(people, k=k, candidates=config.candidates, trees=config.trees, seed=seed))

    def basis(self, history: History) -> Basis:
        """Return what als rests on; it knows the same items as personal frequency does."""
        return self.als.basis(history)

    def scores(self, history: History) -> FloatArray:
        """Return the weighted sum [I]; to that of the candidates, trees add, and they stay above all others."""
        own, factors_D = self._known_of(history)
        if factors_D is None:
            return self.popularity_I
        als_I = self.als.item_ID @ factors_D
        scores_I = weighted_sum(
            self.learned.weights_GS, own, rebuy_I=self.rebuy_I, als_I=als_I, popular_I=self._popular_I
        )
        if len(self.learned.trees):
            best_C = top_k(scores_I, k=self.config.candidates)
            row_C = np.sort(best_C)
            scores_I[row_C] = self._with_trees(row_C, scores_I[row_C], own, als_I[row_C])
        return scores_I

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the best items: those of the sum by search among all, the person's own ones added, trees as ever."""
        own, factors_D = self._known_of(history)
        if factors_D is None:
            return self.als.ranking.best(k=k, barred_I=barred_I, exclude=exclude)
        sums = _Sums(self, own, factors_D)
        if not len(self.learned.trees):
            return sums.best(k=k, barred_I=barred_I, exclude=exclude)
        # Trees order the candidates among all items, whichever may come.
        first = sums.best(k=self.config.candidates, barred_I=None, exclude=EMPTY)
        order_C = np.argsort(first.row_K)
        row_C = first.row_K[order_C]
        both_C = self._with_trees(row_C, first.score_K[order_C], own, self.als.item_ID[row_C] @ factors_D)
        may_C = allowed(row_C, barred_I=barred_I, exclude=exclude)
        ordered = best_among(row_C[may_C], both_C[may_C], k=k)
        rest = sums.best(k=k - len(ordered), barred_I=barred_I, exclude=np.concatenate([exclude, row_C]))
        return best_among(
            np.concatenate([ordered.row_K, rest.row_K]), np.concatenate([ordered.score_K, rest.score_K]), k=k
        )

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return what als holds for alike."""
        return self.als.similar(row, k=k, barred_I=barred_I, exclude=exclude)

    @cached_property
    def nearest(self) -> NearestItems:
        """The items' factors, to be searched by products and popularity together."""
        return NearestItems(self.als.item_ID, plus_I=self._popular_I, codes=self.codes())

    @property
    def directions(self) -> Directions:
        """Where als places the items, seen from the origin."""
        return self.als.directions

    def codes(self) -> Codes:
        """Return the codes of the items' factors."""
        return self.als.codes()

    def with_codes(self, arrays: Mapping[str, AnyArray]) -> "Blend":
        """Return the same model with the codes of its items' factors."""
        return type(self)(self.als.with_codes(arrays), self.rebuy_I, config=self.config, learned=self.learned)

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I], one person at a time: where trees split, the last digits of a product matter."""
        scores_BI = np.empty((len(histories), len(self.vocabulary)), dtype=np.float32)
        for row, history in enumerate(histories):
            scores_BI[row] = self.scores(history)
        return scores_BI

    def arrays(self) -> dict[str, AnyArray]:
        """Return als's arrays, the rebuy rates and what was learned."""
        learned = {"source_weights": self.learned.weights_GS, "trees": self.learned.trees.node_TNF}
        return {**self.als.arrays(), "rebuy": self.rebuy_I, **learned}

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
        own = {name: array for name, array in arrays.items() if name in OWN_ARRAYS}
        trees = own.get("trees", np.zeros(0))
        shapes = {
            "rebuy": (len(vocabulary),),
            "source_weights": (len(BUCKETS) + 1, len(SOURCES)),
            "trees": trees.shape,
        }
        check_arrays(own, shapes, kind=cls.kind)
        learned = Learned(own["source_weights"], checked_trees(trees, features=len(FEATURES)))
        rest = {name: array for name, array in arrays.items() if name not in OWN_ARRAYS}
        als = Als.from_arrays(rest, vocabulary=vocabulary, users=users, config=config)
        return cls(als, own["rebuy"], config=config, learned=learned)

    def _known_of(self, history: History) -> tuple[Own, FloatArray | None]:
        """Return the person's own items, and where als places the person, if anywhere."""
        known = self._lines(history)
        mass = known.mass(at_ms=history.at_ms, half_life_days=self.config.half_life_days or None)
        return self.own_of(history, known), self.als.factors_of(mass, history.user_id)

    def own_of(self, history: History, known: KnownLines | None = None) -> Own:
        """Return what the person's lines say of each known item."""
        return own_items(
            history,
            self._lines(history) if known is None else known,
            half_life_days=self.config.personal_half_life_days,
            recent_half_life_days=self.config.recent_half_life_days,
        )

    def _lines(self, history: History) -> KnownLines:
        return known_lines(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)

    def _with_trees(self, row_C: RowArray, sum_C: FloatArray, own: Own, als_C: FloatArray) -> FloatArray:
        """Return the scores [C] of the candidates: what trees say is added, and none falls below the highest sum."""
        both_C = sum_C + self.learned.trees.scores(self._features(row_C, own, als_C))
        raised_C: FloatArray = sum_C.max() + both_C - both_C.min()
        return raised_C

    def _features(self, row_C: RowArray, own: Own, als_C: FloatArray) -> FloatArray:
        return features_of(row_C, own, rebuy_I=self.rebuy_I, als_C=als_C, popular_I=self._popular_I)

    def _person(self, cases: Sequence[Case], *, k: int) -> Person:
        """Return the pool of one person that something is known of, with what it gains in the baskets that followed."""
        history = cases[0][0]
        own, als_I = self.own_of(history), self.als.scores(history)
        often_H = own.row_H[top_k(own.mass_H, k=POOL)]
        row_C = np.unique(np.concatenate([often_H, top_k(als_I, k=POOL), top_k(self._popular_I, k=POOL)]))
        baskets = [(self.vocabulary.rows(items), len(items)) for _, items in cases]
        taken_C, gain_C = taken_and_gain(row_C, baskets, k=k)
        return Person(
            bucket=own.bucket,
            baskets=len(cases),
            source_CS=sources_of(row_C, own, rebuy_I=self.rebuy_I, als_C=als_I[row_C], popular_I=self._popular_I),
            feature_CF=self._features(row_C, own, als_I[row_C]),
            gain_C=gain_C,
            taken_C=taken_C,
        )


class _Sums:
    """The weighted sums of one person, found where they are highest."""

    def __init__(self, blend: Blend, own: Own, factors_D: FloatArray) -> None:
        self.blend, self.own = blend, own
        _, _, als, popularity = blend.learned.weights_GS[own.bucket]
        self._query_D, self._weight = als * factors_D, float(popularity)
        gained_H = own_sum(blend.learned.weights_GS, own, rebuy_I=blend.rebuy_I)
        self._own_H = blend.als.item_ID[own.row_H] @ self._query_D + popularity * blend._popular_I[own.row_H] + gained_H

    def best(self, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the ``k`` items with the highest sums."""
        own_H = self.own.row_H
        may_H = allowed(own_H, barred_I=barred_I, exclude=exclude)
        others = self.blend.nearest.search(
            self._query_D, k=k, weight=self._weight, barred_I=barred_I, exclude=np.concatenate([exclude, own_H])
        )
        row_C = np.concatenate([own_H[may_H], others.row_K])
        return best_among(row_C, np.concatenate([self._own_H[may_H], others.score_K]), k=k)
