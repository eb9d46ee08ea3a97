"""How a decision came about: every candidate with the places that sources gave it, and the list after each stage."""

from dataclasses import dataclass

from bespoke.models.arrays import FloatArray, RowArray

NO_RANK = -1


@dataclass(frozen=True, slots=True)
class Trace:
    """One decision, stage by stage. C candidates, S sources."""

    source_names: tuple[str, ...]
    row_C: RowArray
    """The candidates after the blend, best first, as rows of the engine's table."""
    score_C: FloatArray
    """Blended, 0..1."""
    rank_CS: RowArray
    """The place from 0 that each source gave each candidate; ``NO_RANK`` where it did not name it."""
    excluded_T: dict[int, str]
    """Rows that were left out for this person, and why."""
    diversified: RowArray
    """Rows in the order after diversification."""
    ruled: RowArray
    """Rows in the order after rules and promotions."""
    explored: RowArray
    """Rows in the order of the answer."""
