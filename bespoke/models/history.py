"""A person's history as models read it: recent lines, what each counts, and how that fades with time.

N lines of one history, H distinct items of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from bespoke.clock import DAY_MS
from bespoke.events import InteractionType, ItemId, UserId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray, TimeArray
from bespoke.profiles import Recent
from bespoke.vocabulary import Vocabulary


class InteractionWeights(BaseModel):
    """How much one line of each interaction type counts as a sign of liking; 0 ignores the type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: float = Field(default=0.1, ge=0, le=100, description="An item was looked at.")
    click: float = Field(default=0.1, ge=0, le=100, description="An item was clicked.")
    add_to_cart: float = Field(default=0.3, ge=0, le=100, description="An item was put into a cart.")
    remove_from_cart: float = Field(default=0.0, ge=0, le=100, description="An item was taken out of a cart.")
    add_to_wishlist: float = Field(default=0.3, ge=0, le=100, description="An item was put on a wish list.")
    purchase: float = Field(default=1.0, ge=0, le=100, description="An item was bought.")
    refund: float = Field(default=0.0, ge=0, le=100, description="An item was given back.")

    @cached_property
    def of_type(self) -> Mapping[str, float]:
        """The weight of each interaction type, by its value."""
        return {kind.value: float(getattr(self, kind.value)) for kind in InteractionType}

    @property
    def of_code(self) -> FloatArray:
        """The weight of each type by its code, see :class:`LineColumns`; 0 for a type that is not known."""
        return np.frombuffer(self.code_bytes, dtype=np.float32)

    @cached_property
    def code_bytes(self) -> bytes:
        """What :attr:`of_code` holds: no array, for settings are compared by all that they hold."""
        return np.array([*(self.of_type[kind] for kind in _CODES), 0.0], dtype=np.float32).tobytes()

    def of(self, interactions: Iterable[str]) -> FloatArray:
        """Return the weight of each interaction; a type that is not known weighs 0."""
        return self.of_code[_codes(interactions)]


_CODES: Mapping[str, int] = {kind.value: code for code, kind in enumerate(InteractionType)}


def _codes(interactions: Iterable[str]) -> npt.NDArray[np.uint8]:
    unknown = len(_CODES)
    return np.frombuffer(bytes(map(_CODES.get, interactions, repeat(unknown))), dtype=np.uint8)


class LineColumns:
    """The N lines of one history as columns. Models that score the same history share them."""

    def __init__(self, recent: Sequence[Recent]) -> None:
        at_ms, item_ids, interactions, *_ = zip(*recent, strict=False) if recent else ((), (), ())
        self.item_ids: tuple[ItemId, ...] = item_ids
        self.at_ms_N: TimeArray = np.fromiter(at_ms, dtype=np.int64, count=len(recent))
        self.interaction_N = _codes(interactions)
        """The number of each line's type among :class:`InteractionType`; one more for those that are not known."""
        self._rows: dict[int, tuple[Vocabulary[ItemId], RowArray]] = {}
        self._weights: dict[bytes, FloatArray] = {}

    def rows(self, vocabulary: Vocabulary[ItemId]) -> RowArray:
        """Return the row of each line's item [N], -1 where the vocabulary does not have it; looked up once."""
        known = self._rows.get(id(vocabulary))
        if known is None:
            # Kept with its vocabulary, whose number could otherwise become another one's.
            known = self._rows[id(vocabulary)] = vocabulary, vocabulary.rows(self.item_ids)
        return known[1]

    def weights(self, weights: InteractionWeights) -> FloatArray:
        """Return what each line counts by its type [N], not decayed; the same array for equal weights."""
        known = self._weights.get(weights.code_bytes)
        if known is None:
            known = self._weights[weights.code_bytes] = weights.of_code[self.interaction_N]
        return known

    def put(self, vocabulary: Vocabulary[ItemId], row_N: RowArray) -> None:
        """Take over rows that somebody has looked up another way."""
        self._rows[id(vocabulary)] = vocabulary, row_N


@dataclass(frozen=True, slots=True)
class History:
    """What a model may know of a person when it scores: an id, recent lines, and the time of the request."""

    user_id: UserId | None
    recent: tuple[Recent, ...]
    at_ms: int
    weights: tuple[float, ...] | None = None
    """What each recent line counts, where the source says so itself; by its interaction type otherwise."""
    shared: LineColumns | None = field(default=None, compare=False, repr=False)
    """The lines as columns, where several models are asked about the same history."""

    @property
    def columns(self) -> LineColumns:
        """The lines as columns."""
        return self.shared or LineColumns(self.recent)

    def weight_of(self, columns: LineColumns, weights: InteractionWeights) -> FloatArray:
        """Return what each line counts [N], not decayed."""
        if self.weights is not None:
            return np.array(self.weights, dtype=np.float32)
        return columns.weights(weights)


@dataclass(frozen=True, slots=True)
class ItemMass:
    """The distinct items of one history that a model knows, and the decayed weight of each."""

    row_H: RowArray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    mass_H: FloatArray = field(default_factory=lambda: np.zeros(0, dtype=np.float32))

    def __len__(self) -> int:
        return len(self.row_H)


@dataclass(frozen=True, slots=True)
class KnownLines:
    """The N lines of one history that count, about items that a model knows: H distinct ones."""

    row_H: RowArray
    """Ascending."""
    place_N: npt.NDArray[np.intp]
    """Which of them each line is about."""
    at_ms_N: TimeArray
    weight_N: FloatArray
    """By interaction type, not decayed."""

    def summed(self, value_N: AnyArray) -> FloatArray:
        """Return the sum of the lines' values per item [H]."""
        return np.bincount(self.place_N, weights=value_N, minlength=len(self.row_H)).astype(np.float32)

    def decayed(self, *, at_ms: int, half_life_days: float | None) -> FloatArray:
        """Return the decayed weight per item [H]."""
        return self.summed(decayed(self.weight_N, self.at_ms_N, at_ms=at_ms, half_life_days=half_life_days))

    def mass(self, *, at_ms: int, half_life_days: float | None) -> ItemMass:
        """Return the items with their decayed weights, where these are not too small for a number."""
        mass_H = self.decayed(at_ms=at_ms, half_life_days=half_life_days)
        kept_H = mass_H > 0
        return ItemMass(self.row_H, mass_H) if kept_H.all() else ItemMass(self.row_H[kept_H], mass_H[kept_H])


def known_lines(history: History, *, vocabulary: Vocabulary[ItemId], weights: InteractionWeights) -> KnownLines:
    """Return the lines of ``history.recent`` that weigh something, about items that ``vocabulary`` holds."""
    columns = history.columns
    row_N, weight_N = columns.rows(vocabulary), history.weight_of(columns, weights)
    kept_N = (row_N >= 0) & (weight_N > 0)
    row_H, place_N = distinct(row_N[kept_N])
    return KnownLines(row_H, place_N, columns.at_ms_N[kept_N], weight_N[kept_N])


def any_known(history: History, *, vocabulary: Vocabulary[ItemId], weights: InteractionWeights) -> bool:
    """Return whether any line weighs something and is about an item that ``vocabulary`` holds."""
    if not history.recent:
        return False
    from bespoke.models.history_kernel import any_counts  # numba takes a second to load

    columns = history.columns
    return bool(any_counts(columns.rows(vocabulary), history.weight_of(columns, weights)))


def item_mass(
    history: History,
    *,
    vocabulary: Vocabulary[ItemId],
    weights: InteractionWeights,
    half_life_days: float | None,
) -> ItemMass:
    """Return the decayed weight of each item in ``history.recent`` that ``vocabulary`` holds, by ascending rows."""
    if not history.recent:
        return ItemMass()
    from bespoke.models.history_kernel import mass

    columns = history.columns
    weight_N = history.weight_of(columns, weights)
    row_N, at_ms = columns.rows(vocabulary), history.at_ms
    return ItemMass(*mass(row_N, weight_N, columns.at_ms_N, at_ms, half_life_days or 0.0))


def distinct(row_N: RowArray) -> tuple[RowArray, npt.NDArray[np.intp]]:
    """Return the distinct rows, ascending, and the place of each row among them: ``np.unique`` for short arrays.

    >>> [array.tolist() for array in distinct(np.array([7, 3, 7], dtype=np.int32))]
    [[3, 7], [1, 0, 1]]
    """
    order_N = row_N.argsort()
    sorted_N = row_N[order_N]
    fresh_N = np.ones(len(row_N), dtype=np.bool_)
    np.not_equal(sorted_N[1:], sorted_N[:-1], out=fresh_N[1:])
    place_N = np.empty(len(row_N), dtype=np.intp)
    place_N[order_N] = fresh_N.cumsum() - 1
    return sorted_N[fresh_N], place_N


def decayed(weight_N: FloatArray, at_ms_N: TimeArray, *, at_ms: int, half_life_days: float | None) -> FloatArray:
    """Return weights [N] halved every half-life of their age at ``at_ms``; what lies in the future keeps its weight."""
    if half_life_days is None:
        return weight_N
    age_days_N = np.maximum(at_ms - at_ms_N, 0) / DAY_MS
    # float32 ends at 2**-126; what lies below would turn into zero and the line would vanish.
    exponent_N = np.minimum(age_days_N / half_life_days, 120.0)
    return (weight_N * np.exp2(-exponent_N)).astype(np.float32)
