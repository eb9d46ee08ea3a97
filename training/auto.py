"""Which kinds of model suit which data, and which of them measures best.

docs/choosing-a-model.md says the same in words.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from bespoke.catalog import Catalog
from bespoke.errors import TrainingError
from bespoke.models.arrays import AnyArray

MANY_REPEATS = 0.1
"""Share of people's later lines that repeat an earlier (person, item), from which on repeats carry a model."""
SHORT_LINES = 10
"""Lines of a typical person up to which what was taken together says more than factors of the person do."""
LARGE_LINES = 100_000
"""Lines from which on a network has enough to learn from."""
DESCRIBED_SHARE = 0.5
"""Share of the items that a catalog must describe for models of content to be worth a try."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides which models suit."""

    users: int
    items: int
    lines: int
    typical_lines: float
    """Lines of the person in the middle."""
    density: float
    """Share of all (person, item) pairs that occur."""
    repeat_share: float
    """Share of people's later lines that repeat an earlier pair, 0..1."""
    timed: bool
    described_share: float
    """Share of the items of which category, name or text are known, 0..1."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The kind that measured best, and what was measured."""

    kind: str
    scores: Mapping[str, float]
    reasons: Mapping[str, str]


def facts_of(user_N: AnyArray, item_N: AnyArray, *, repeat_share: float, timed: bool, described: int = 0) -> Facts:
    """Return the facts of N lines.

    Args:
        user_N: row of the person of each line.
        item_N: row of its item.
        repeat_share: share of people's later lines that repeat an earlier pair.
        timed: whether it is known when things happened.
        described: how many of the items a catalog describes.
    """
    _, lines_U = np.unique(user_N, return_counts=True)
    items = len(np.unique(item_N))
    pairs = len(np.unique(np.stack([user_N, item_N]), axis=1).T)
    return Facts(
        users=len(lines_U),
        items=items,
        lines=len(user_N),
        typical_lines=float(np.median(lines_U)) if len(lines_U) else 0.0,
        density=pairs / (len(lines_U) * items) if items else 0.0,
        repeat_share=repeat_share,
        timed=timed,
        described_share=described / items if items else 0.0,
    )


def described(catalog: Catalog, item_ids: Collection[str]) -> int:
    """Return how many of the items have a category, a name or a text."""
    found = (catalog.get(item_id) for item_id in item_ids)  # type: ignore[call-overload]
    return sum(item is not None and bool(item.category or item.name or item.text) for item in found)


def suitable_kinds(facts: Facts, kinds: Collection[str]) -> dict[str, str]:
    """Return the kinds that suit, each with the reason, those first that are quick to try.

    Args:
        facts: of the data to learn from.
        kinds: those that there are.
    """
    repeats = facts.repeat_share >= MANY_REPEATS
    short = facts.typical_lines <= SHORT_LINES
    reasons = {"popularity": "the baseline", "als": "people and items share tastes"}
    if repeats:
        reasons["buy_again"] = f"{facts.repeat_share:.0%} of later lines repeat an earlier one"
        reasons["blend"] = "repeats and tastes both count"
    if facts.timed or short:
        reasons["covisitation"] = "what comes together in short histories" if short else "what comes after what"
    if facts.described_share >= DESCRIBED_SHARE:
        reasons["content"] = f"{facts.described_share:.0%} of the items are described"
    if facts.lines >= LARGE_LINES or facts.described_share >= DESCRIBED_SHARE:
        reasons["two_tower"] = "enough lines for a network" if facts.lines >= LARGE_LINES else "items are described"
    order = ("popularity", "buy_again", "covisitation", "content", "als", "blend", "two_tower")
    return {kind: reasons[kind] for kind in order if kind in reasons and kind in kinds}


def choose_kind(reasons: Mapping[str, str], measure: Callable[[str], float | None]) -> Choice:
    """Measure each suitable kind and return the best one; of equal ones the one that came first.

    Args:
        reasons: the kinds to try, as :func:`suitable_kinds` returns them.
        measure: returns a score, higher is better; None where there was no time for it.

    Raises:
        TrainingError: none could be measured.
    """
    scores = {kind: score for kind in reasons if (score := measure(kind)) is not None}
    if not scores:
        raise TrainingError(f"none of {', '.join(reasons)} could be measured; allow more time with --time-limit")
    return Choice(max(scores, key=lambda kind: scores[kind]), scores, reasons)
