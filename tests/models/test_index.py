"""The exact top-k."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bespoke.models.index import top_k


@given(
    scores=st.lists(st.integers(-3, 3), max_size=40),
    k=st.integers(0, 45),
    excluded=st.sets(st.integers(0, 39), max_size=10),
)
def test_top_k_equals_sorting_everything(scores: list[int], k: int, excluded: set[int]) -> None:
    excluded = {row for row in excluded if row < len(scores)}
    expected = [row for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)) if row not in excluded]
    assert top_k(np.array(scores, dtype=np.float32), k=k, exclude=excluded).tolist() == expected[:k]


def test_excluding_does_not_touch_the_scores() -> None:
    scores_I = np.array([1.0, 2.0], dtype=np.float32)
    top_k(scores_I, k=1, exclude=[1])
    assert scores_I.tolist() == [1.0, 2.0]


def test_minus_infinity_is_never_returned() -> None:
    assert top_k(np.array([-np.inf, 0.0, -np.inf], dtype=np.float32), k=2).tolist() == [1]
