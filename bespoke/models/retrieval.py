"""The best items of a model for a person, or like an item, without scoring all of them where the family can.

Families that can have methods of their own, see :class:`Retrieves` and :class:`Likens`; for all others every item is
scored. ``tests/models/test_retrieval.py`` says that both agree.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from bespoke.errors import BundleError
from bespoke.events import InteractionType
from bespoke.models.arrays import AnyArray, RowArray
from bespoke.models.base import Model
from bespoke.models.history import History
from bespoke.models.index import EMPTY, BoolArray, Retrieved, best_of
from bespoke.models.nearest import Codes, Directions
from bespoke.profiles import Recent

__all__ = ["EMPTY", "Directions", "Retrieved", "codes_of", "item_vectors", "retrieve", "similar", "warm", "with_codes"]


class Retrieves(Protocol):
    """A model that finds its best items without scoring all of them."""

    def retrieve(self, history: History, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return what :func:`retrieve` promises."""


class Likens(Protocol):
    """A model that tells which items are alike."""

    def similar(self, row: int, *, k: int, barred_I: BoolArray | None, exclude: RowArray) -> Retrieved:
        """Return what :func:`similar` promises."""


@runtime_checkable
class Places(Protocol):
    """A model whose items are points."""

    @property
    def directions(self) -> Directions:
        """The items' vectors at length 1."""


@runtime_checkable
class Searches(Protocol):
    """A model that searches among vectors of items."""

    def codes(self) -> Codes:
        """Return the codes that it searches; made now, unless it came with them."""

    def with_codes(self, arrays: Mapping[str, AnyArray]) -> Model:
        """Return the same model with codes made before, as :meth:`Codes.arrays` gave them."""


def retrieve(
    model: Model, history: History, *, k: int, barred_I: BoolArray | None = None, exclude: RowArray = EMPTY
) -> Retrieved:
    """Return the ``k`` best of ``model.scores(history)`` among rows neither barred nor excluded.

    Args:
        model: of any family.
        history: whom for.
        k: how many; fewer come only where fewer rows may.
        barred_I: rows that may not come, a mask that many requests share; None for no such rows.
        exclude: a few more rows that may not come, such as those a person has seen.
    """
    # Asked by name: a check against the protocol looks at all of its members each time.
    own: Retrieves | None = model if hasattr(model, "retrieve") else None  # type: ignore[assignment]
    if own is not None:
        return own.retrieve(history, k=k, barred_I=barred_I, exclude=exclude)
    return best_of(model.scores(history), k=k, barred_I=barred_I, exclude=exclude)


def similar(
    model: Model, row: int, *, k: int, barred_I: BoolArray | None = None, exclude: RowArray = EMPTY
) -> Retrieved:
    """Return the ``k`` items most like the one in ``row``, which is not among them.

    Families without a notion of likeness (popularity, buy_again) give nothing. Scores compare within one answer only.
    """
    own: Likens | None = model if hasattr(model, "similar") else None  # type: ignore[assignment]
    if own is None:
        return Retrieved.none()
    return own.similar(row, k=k, barred_I=barred_I, exclude=np.append(exclude, np.int32(row)))


def item_vectors(model: Model) -> Directions | None:
    """Return the items' vectors at length 1, by row: ``item_vectors(model)[row_K]`` is [K, D]; None: there are none.

    The product of two rows is how alike two items are, from -1 to 1.
    """
    return model.directions if isinstance(model, Places) else None


def codes_of(model: Model) -> Codes | None:
    """Return the codes of a model's item vectors, which a bundle keeps; None for families without such."""
    return model.codes() if isinstance(model, Searches) else None


def with_codes(model: Model, arrays: Mapping[str, AnyArray]) -> Model:
    """Return ``model`` with the codes that :func:`codes_of` gave, as arrays.

    Raises:
        BundleError: they are not those of the model's vectors, or it has none.
    """
    if not isinstance(model, Searches):
        raise BundleError(f"a {model.kind} model searches no vectors, but its bundle holds codes of some")
    return model.with_codes(arrays)


def warm(model: Model) -> None:
    """Do what a first request would otherwise wait for: load compiled code, put items in order."""
    retrieve(model, History(None, (), 0), k=1)
    if len(model.vocabulary):
        line = Recent(0, model.vocabulary.ids[0], InteractionType.PURCHASE.value, 1.0)
        history = History(None, (line,), 0)
        retrieve(model, history, k=1)
        model.basis(history)
        similar(model, 0, k=1)
    if (codes := codes_of(model)) is not None:
        codes.warm()
