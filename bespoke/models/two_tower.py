"""two_tower: people and items as unit vectors, made of ids, histories and content; a score is their cosine.

The item tower adds a row of its own and the rows of its content's marks; the person tower adds a row of its own, the
pooled vectors of recent items and a few numbers about the history. Ids are dropped at random in training, so new items
are placed by content and new people by what they took. Training holds each choice against other items; see
``two_tower_trainer`` for the loss and ``two_tower_examples`` for the examples: what is predicted from a history is
strictly later than it, or, where a person's lines all bear one time, is none of its lines.

Source: Covington et al. 2016 (two towers); Yi et al. 2019 (sampled softmax, corrected); Mao et al. 2021, "SimpleX".
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Self, cast

import numpy as np

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import BundleError
from bespoke.events import ItemId, UserId
from bespoke.models.als import Als
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.base import Basis, Epoch, Interactions, Model, ModelConfig, OnEpoch, check_arrays
from bespoke.models.history import History, any_known
from bespoke.models.index import BoolArray, Ranking, Retrieved
from bespoke.models.nearest import Codes, Directions, NearestItems, lengths
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_fit import Rounds, prepare
from bespoke.models.two_tower_lines import Lines, lines_of
from bespoke.models.two_tower_tables import Sizes
from bespoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from bespoke.models.two_tower_trainer import Trainer

LEAST_COSINE = -1.0


class TwoTower:
    """Both towers. See :class:`bespoke.models.base.Model` for the interface. Scoring takes NumPy alone.

    Items of the catalog without interactions are scored by content; without content too they come last.
    """

    kind: ClassVar[str] = "two_tower"
    Config: ClassVar[type[ModelConfig]] = TwoTowerConfig

    def __init__(
        self,
        arrays: Mapping[str, FloatArray],
        *,
        users: Vocabulary[UserId],
        vocabulary: Vocabulary[ItemId],
        config: TwoTowerConfig,
        codes: Codes | None = None,
    ) -> None:
        self._arrays = dict(arrays)
        self.users = users
        self.vocabulary = vocabulary
        self.config = config
        self.popularity_I = arrays["popularity"]
        self._item_ID = arrays["item_vectors"]
        # Scores are divided, so that the vectors stay in their file: a second table would be every process's own.
        self._length_I = lengths(self._item_ID)
        self._unknown_I = np.flatnonzero(~self._item_ID.any(axis=1))
        self._codes = codes

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: TwoTowerConfig | None = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: Model | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Train in this process; ``start`` may be an als model or an earlier two_tower.

        With enough people, the last lines of some of them are held out to tell when to stop, and the best epoch counts.
        """
        prepared = prepare(interactions, config=config or TwoTowerConfig(), at_ms=at_ms, seed=seed, catalog=catalog)
        from bespoke.models.two_tower_trainer import Trainer, best_device, threads_for  # torch takes seconds to load

        trainer = Trainer(
            prepared.tables(start, seed=seed),
            prepared.content,
            config=prepared.config,
            device=best_device(),
            known_I=prepared.examples.known_I,
        )
        rounds = Rounds(prepared, seed)
        with threads_for(rounds.products):
            if isinstance(start, Als):
                rounds.judge(trainer.arrays)  # What training makes worse is left as it began.
            _train(trainer, rounds, on_epoch)
        return cast(Self, rounds.model(trainer.arrays()))

    @property
    def sizes(self) -> Sizes:
        """Whose rows its tables hold."""
        return Sizes(self.users, self.vocabulary, len(self._arrays["content"]), self.config.factors)

    def basis(self, history: History) -> Basis:
        """Return what places this person among the items."""
        if history.user_id is not None and history.user_id in self.users:
            return Basis.PERSON
        known = any_known(history, vocabulary=self.vocabulary, weights=self.config.interaction_weights)
        return Basis.RECENT_ITEMS if known else Basis.POPULARITY

    def scores(self, history: History) -> FloatArray:
        """Return the cosine [I] of the person with every item."""
        scores_I: FloatArray = self.scores_batch([history])[0]
        return scores_I

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I] by one matrix product."""
        lines = self._lines(histories)
        row_B = [None if one.user_id is None else self.users.row(one.user_id) for one in histories]
        person_B = np.array([-1 if row is None else row for row in row_B], dtype=np.int32)
        scores_BI = self.scores_of(self.place(lines, person_B))
        scores_BI[(person_B < 0) & (lines.counts_B == 0)] = self.popularity_I
        return scores_BI

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the best items, by search among the items' vectors."""
        lines, row = self._lines([history]), None if history.user_id is None else self.users.row(history.user_id)
        if row is None and not lines.counts_B[0]:
            return self.ranking.best(k=k, barred_I=barred_I, exclude=exclude)
        person_D = self._place_one(lines, row)
        return self._near(person_D, k=k, barred_I=barred_I, exclude=exclude)

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return the items whose vectors point the same way: the score is the cosine."""
        return self._near(self.directions[np.array([row])][0], k=k, barred_I=barred_I, exclude=exclude)

    @cached_property
    def ranking(self) -> Ranking:
        """The items by popularity."""
        return Ranking(self.popularity_I)

    @cached_property
    def nearest(self) -> NearestItems:
        """The items' vectors, to be searched by cosines; what lets items that nothing is known of come last."""
        last_I = None
        if len(self._unknown_I):
            last_I = np.zeros(len(self.vocabulary), dtype=np.float32)
            last_I[self._unknown_I] = 2 * LEAST_COSINE
        return NearestItems(self._item_ID, length_I=self._length_I, plus_I=last_I, codes=self.codes())

    @property
    def directions(self) -> Directions:
        """Where the items stand, at length 1."""
        return Directions(self._item_ID)

    def codes(self) -> Codes:
        """Return the codes of the items' vectors."""
        if self._codes is None:
            self._codes = Codes.of(self._item_ID)
        return self._codes

    def with_codes(self, arrays: Mapping[str, AnyArray]) -> "TwoTower":
        """Return the same model with the codes of its items' vectors."""
        return type(self)(
            self._arrays,
            users=self.users,
            vocabulary=self.vocabulary,
            config=self.config,
            codes=Codes.from_arrays(arrays, vector_ID=self._item_ID),
        )

    def place(self, lines: Lines, person_B: RowArray) -> FloatArray:
        """Return the person tower's vectors [B, D], of length 1.

        Args:
            lines: the histories of B people.
            person_B: their rows among :attr:`users`, -1 for others.
        """
        half_life_days = self.config.half_life_days
        if len(person_B) == 1:
            return self._place_one(lines, int(person_B[0]) if person_B[0] >= 0 else None)[None]
        pooled_BD = lines.matrix(items=len(self.vocabulary), half_life_days=half_life_days) @ self._item_ID
        vector_BD = pooled_BD @ self._arrays["history_map"]
        vector_BD += lines.about(half_life_days=half_life_days) @ self._arrays["about_map"]
        vector_BD[person_B >= 0] += self._arrays["person_ids"][person_B[person_B >= 0]]
        length_B1 = np.linalg.norm(vector_BD, axis=1, keepdims=True)
        placed_BD: FloatArray = vector_BD / np.maximum(length_B1, 1e-6)
        return placed_BD

    def _place_one(self, lines: Lines, row: int | None) -> FloatArray:
        """Return the vector [D] of one person."""
        half_life_days = self.config.half_life_days
        pooled_D: AnyArray = lines.shares(half_life_days=half_life_days) @ self._item_ID.take(lines.item_L, axis=0)
        vector_D: FloatArray = pooled_D @ self._arrays["history_map"]
        vector_D += lines.about(half_life_days=half_life_days)[0] @ self._arrays["about_map"]
        if row is not None:
            vector_D += self._arrays["person_ids"][row]
        vector_D /= max(math.sqrt(float(vector_D @ vector_D)), 1e-6)
        return vector_D

    def scores_of(self, person_BD: FloatArray) -> FloatArray:
        """Return the cosines [B, I] of people as :meth:`place` gives them; items it knows nothing of come last."""
        scores_BI: FloatArray = person_BD @ self._item_ID.T
        scores_BI /= self._length_I
        scores_BI[:, self._unknown_I] = LEAST_COSINE
        return scores_BI

    def arrays(self) -> dict[str, AnyArray]:
        """Return the tables, the items' vectors that follow from them and the catalog, and popularity."""
        return dict(self._arrays)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: TwoTowerConfig,
    ) -> Self:
        """Put together what :meth:`arrays` gave."""
        buckets = len(arrays["content"]) if "content" in arrays else 0
        if buckets not in (0, config.content_buckets):
            raise BundleError(f"array 'content' has {buckets} rows, expected {config.content_buckets} or none")
        shapes = Sizes(users, vocabulary, buckets, config.factors).shapes
        items = (len(vocabulary), config.factors)
        check_arrays(arrays, {**shapes, "item_vectors": items, "popularity": items[:1]}, kind=cls.kind)
        return cls(arrays, users=users, vocabulary=vocabulary, config=config)

    def _near(self, query_D: FloatArray, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        found = self.nearest.search(query_D, k=k, weight=1.0, barred_I=barred_I, exclude=exclude)
        return Retrieved(found.row_K, np.maximum(found.score_K, np.float32(LEAST_COSINE)))

    def _lines(self, histories: Sequence[History]) -> Lines:
        config = self.config
        return lines_of(
            histories,
            vocabulary=self.vocabulary,
            weights=config.interaction_weights,
            limit=config.history_lines,
        )


def _train(trainer: "Trainer", rounds: Rounds, on_epoch: OnEpoch | None) -> None:
    """Go through the epochs until one of the three who may end it does."""
    for epoch in range(1, rounds.prepared.config.epochs + 1):
        steps = enumerate(rounds.batches(epoch))
        losses = [trainer.step(batch, rate=rounds.rate(epoch, step)) for step, batch in steps]
        stop = rounds.judge(trainer.arrays)
        if on_epoch is not None:
            ended = Epoch(epoch, float(np.mean(losses)), partial(rounds.model, trainer.arrays()))
            stop = bool(on_epoch(ended)) or stop
        if stop:
            break
