"""The exact top-k."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bespoke.models.index import EMPTY, Ranking, best_among, top_k


@given(
    scores=st.lists(st.integers(-3, 3), max_size=40),
    k=st.integers(0, 45),
    excluded=st.sets(st.integers(0, 39), max_size=10),
)
def test_top_k_equals_sorting_everything(scores: list[int], k: int, excluded: set[int]) -> None:
    excluded = {row for row in excluded if row < len(scores)}
    expected = [row for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)) if row not in excluded]
    assert top_k(np.array(scores, dtype=np.float32), k=k, exclude=excluded).tolist() == expected[:k]


@given(scores=st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-30, 0.5, 7.0]), max_size=300), k=st.integers(0, 60))
def test_the_best_of_some_rows_are_those_of_sorting_them(scores: list[float], k: int) -> None:
    row_C = np.random.default_rng(k).permutation(len(scores)).astype(np.int32)
    found = best_among(row_C, np.array(scores, dtype=np.float32), k=k)
    expected = sorted(zip(scores, row_C.tolist(), strict=True), key=lambda one: (-one[0], one[1]))[:k]
    assert found.row_K.tolist() == [row for _, row in expected]
    assert found.score_K.tolist() == np.array([score for score, _ in expected], dtype=np.float32).tolist()


@given(
    ranked=st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    own=st.dictionaries(st.integers(0, 39), st.integers(-5, 5), max_size=12),
    k=st.integers(0, 45),
    barred=st.sets(st.integers(0, 39), max_size=12),
    excluded=st.lists(st.integers(0, 39), max_size=12),
)
def test_own_scores_take_the_place_of_those_in_the_ranking(
    ranked: list[int], own: dict[int, int], k: int, barred: set[int], excluded: list[int]
) -> None:
    own = {row: score for row, score in own.items() if row < len(ranked)}
    score_of = {**dict(enumerate(ranked)), **own}
    expected = sorted(score_of.keys() - barred - set(excluded), key=lambda row: (-score_of[row], row))[:k]
    found = Ranking(np.array(ranked, dtype=np.float32)).best_with(
        np.array(list(own), dtype=np.int32),
        np.array(list(own.values()), dtype=np.float32),
        k=k,
        barred_I=np.isin(np.arange(len(ranked)), list(barred)) if barred else None,
        exclude=np.array(excluded, dtype=np.int32) if excluded else EMPTY,
    )
    assert found.row_K.tolist() == expected and found.score_K.tolist() == [score_of[row] for row in expected]


def test_excluding_does_not_touch_the_scores() -> None:
    scores_I = np.array([1.0, 2.0], dtype=np.float32)
    top_k(scores_I, k=1, exclude=[1])
    assert scores_I.tolist() == [1.0, 2.0]


def test_minus_infinity_is_never_returned() -> None:
    assert top_k(np.array([-np.inf, 0.0, -np.inf], dtype=np.float32), k=2).tolist() == [1]
