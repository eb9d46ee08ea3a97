"""What recommenders share: interactions to learn from, a person's history to score, the model protocol.

Shapes in this package: U users, I items, N interactions, H distinct items of one history, B histories of a batch,
D factors. An array's name ends in its shape: ``scores_BI``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array

from bespoke.catalog import EMPTY_CATALOG, Catalog
from bespoke.errors import BundleError, TrainingError, shown
from bespoke.events import ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray
from bespoke.models.history import History, InteractionWeights, decayed
from bespoke.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Epoch:
    """One round of training that has ended."""

    number: int
    """From 1."""
    loss: float
    """What training minimises."""
    model: "Callable[[], Model]"
    """Makes the model that training would end with here."""


OnEpoch = Callable[[Epoch], bool | None]
"""Called after each epoch; True ends training there."""


class ModelConfig(BaseModel):
    """What every model's config has; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interaction_weights: InteractionWeights = Field(
        default=InteractionWeights(), description="What a line of each interaction type counts."
    )


@dataclass(frozen=True, slots=True)
class Interactions:
    """N lines of who did something with which item, in rows of two vocabularies."""

    users: Vocabulary[UserId]
    items: Vocabulary[ItemId]
    user_N: RowArray
    item_N: RowArray
    at_ms_N: TimeArray
    weight_N: FloatArray
    """What the line counts, by its interaction type; always positive."""

    def __len__(self) -> int:
        return len(self.user_N)

    @classmethod
    def from_columns(cls, users: Any, items: Any, at_ms: Any, weights: Any) -> Self:
        """Number the ids of N lines in alphabetical order, so that the order of the lines does not matter.

        Args:
            users: string column [N]: Arrow, NumPy or a sequence.
            items: string column [N].
            at_ms: integer column [N], milliseconds.
            weights: float column [N]; lines that weigh nothing are left out, their ids too.

        Raises:
            TrainingError: the columns differ in length, hold nulls or weights that are no numbers.
        """
        at_ms_N = np.asarray(at_ms, dtype=np.int64)
        weight_N = np.asarray(weights, dtype=np.float32)
        if not len(users) == len(items) == len(at_ms_N) == len(weight_N):
            raise TrainingError(
                f"interaction columns differ in length: {len(users)} users, {len(items)} items, "
                f"{len(at_ms_N)} times, {len(weight_N)} weights"
            )
        if not np.isfinite(weight_N).all():
            raise TrainingError("interaction weights hold NaN or infinity; give every line a finite weight")
        kept_N = weight_N > 0
        user_ids, user_N = _numbered(users, kept_N)
        item_ids, item_N = _numbered(items, kept_N)
        return cls(Vocabulary(user_ids), Vocabulary(item_ids), user_N, item_N, at_ms_N[kept_N], weight_N[kept_N])

    def decayed_weights(self, *, at_ms: int, half_life_days: float | None) -> FloatArray:
        """Return the weights [N] as seen at ``at_ms``: halved every half-life, unchanged where that is None."""
        return decayed(self.weight_N, self.at_ms_N, at_ms=at_ms, half_life_days=half_life_days)

    def to_csr(self, weight_N: FloatArray | None = None) -> csr_array:
        """Return the users' total weights on items, [U, I]; of ``weight_N`` where given."""
        values_N = self.weight_N if weight_N is None else weight_N
        total_UI = csr_array((values_N, (self.user_N, self.item_N)), shape=(len(self.users), len(self.items)))
        total_UI.sum_duplicates()
        return total_UI

    def require_some(self) -> None:
        """Raise TrainingError where there is nothing to learn from."""
        if not len(self):
            raise TrainingError("there are no interactions to learn from; widen the window or check the weights")


class Basis(StrEnum):
    """What scores for a person rest on."""

    PERSON = "person"
    """The model knows this person: from training, or by the person's own counts."""
    RECENT_ITEMS = "recent_items"
    """A person the model does not know, placed by recent items."""
    POPULARITY = "popularity"
    """Nothing personal: everybody gets the same scores."""


class Model(Protocol):
    """A trained recommender. It never changes after training, so threads may share it.

    ``tests/models/test_conformance.py`` says what holds for every model of :mod:`bespoke.models.registry`.
    """

    kind: ClassVar[str]
    """Name of the family, as bundles and config files use it."""
    Config: ClassVar[type[ModelConfig]]

    @property
    def config(self) -> ModelConfig:
        """What it was trained with."""

    @property
    def vocabulary(self) -> Vocabulary[ItemId]:
        """The items that it scores, by row."""

    @property
    def users(self) -> Vocabulary[UserId]:
        """The people it learned something of its own about; empty for models that keep nothing per person."""

    @property
    def popularity_I(self) -> FloatArray:
        """Decayed weight of each item in the training window: what everybody does."""

    @classmethod
    def fit(
        cls,
        interactions: Interactions,
        *,
        config: Any = None,
        at_ms: int,
        seed: int = 0,
        catalog: Catalog = EMPTY_CATALOG,
        start: "Model | None" = None,
        on_epoch: OnEpoch | None = None,
    ) -> Self:
        """Learn from ``interactions`` as seen at ``at_ms``.

        Args:
            interactions: nothing in them is from ``at_ms`` or later.
            config: a :attr:`Config`; the defaults where None.
            at_ms: the cut.
            seed: equal seeds and data give equal models.
            catalog: what was known of items at the cut. Models that learn from content score all of its items; the
                others leave it aside.
            start: an earlier model to begin from, of this kind or one whose tables this kind can use; families that do
                not train step by step, and tables of other sizes, leave it aside.
            on_epoch: told each epoch, by families that have epochs.

        Raises:
            TrainingError: there is nothing to learn from.
        """

    def basis(self, history: History) -> Basis:
        """Return what :meth:`scores` rests on for this person."""

    def scores(self, history: History) -> FloatArray:
        """Return a score [I] for every item, higher is better; popularity where nothing is known of the person.

        The array may be the model's own: read it, do not write to it.
        """

    def scores_batch(self, histories: Sequence[History]) -> FloatArray:
        """Return scores [B, I], each row as :meth:`scores` gives it."""

    def arrays(self) -> dict[str, AnyArray]:
        """Return what was learned, by name."""

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, AnyArray],
        *,
        vocabulary: Vocabulary[ItemId],
        users: Vocabulary[UserId],
        config: Any,
    ) -> Self:
        """Put together what :meth:`arrays` gave.

        Raises:
            BundleError: names or shapes do not fit.
        """


def _numbered(column: Any, kept_N: npt.NDArray[np.bool_]) -> tuple[list[Any], RowArray]:
    """Return the distinct ids in alphabetical order and each line's number among them."""
    array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, type=pa.string())
    array = array.cast(pa.large_string())
    if array.null_count:
        raise TrainingError(f"{array.null_count} interaction lines have no id; leave them out")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    encoded = array.filter(pa.array(kept_N)).dictionary_encode()
    ids = np.array(encoded.dictionary.to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    number_of = np.empty(len(ids), dtype=np.int32)
    number_of[order] = np.arange(len(ids), dtype=np.int32)
    return ids[order].tolist(), number_of[encoded.indices.to_numpy()]


def check_arrays(arrays: Mapping[str, AnyArray], shapes: Mapping[str, tuple[int, ...]], *, kind: str) -> None:
    """Raise BundleError unless ``arrays`` are exactly those named in ``shapes``, float32 and of those shapes."""
    if set(arrays) != set(shapes):
        raise BundleError(f"a {kind} model has the arrays {sorted(shapes)}, got {shown(sorted(arrays))}")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise BundleError(f"array {name!r} of a {kind} model: got {array.dtype} {array.shape}, expected {shape}")
