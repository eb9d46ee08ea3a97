"""Search among item vectors: the same as looking at all of them."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bespoke.models.arrays import FloatArray
from bespoke.models.index import best_of
from bespoke.models.nearest import LANES, Codes, Directions, NearestItems, lengths
from bespoke.models.nearest_kernel import search_of

ROWS = 5_000


def spherical(random: np.random.Generator, rows: int) -> FloatArray:
    return random.standard_normal((rows, 40), dtype=np.float32)


def clustered(random: np.random.Generator, rows: int) -> FloatArray:
    centres = random.standard_normal((20, 40), dtype=np.float32)
    return (centres[random.integers(20, size=rows)] + 1e-3 * spherical(random, rows)).astype(np.float32)


def trained(random: np.random.Generator, rows: int) -> FloatArray:
    """A few directions hold most, and a few rows are long: what als makes of people who like what is popular."""
    long = (1 / (1 + random.permutation(rows))) ** 0.5
    return (spherical(random, rows) * np.exp(-np.arange(40) / 5) * long[:, None]).astype(np.float32)


@pytest.mark.parametrize("vectors", [spherical, clustered, trained])
@pytest.mark.parametrize("barred_share", [None, 0.5, 0.995])
def test_the_best_are_those_of_a_full_scan(
    vectors: Callable[[np.random.Generator, int], FloatArray], barred_share: float | None
) -> None:
    random = np.random.default_rng(0)
    nearest = NearestItems(vectors(random, ROWS))
    barred_I = None if barred_share is None else random.random(ROWS) < barred_share
    exclude = random.integers(ROWS, size=30).astype(np.int32)
    for query_D in vectors(random, 10):
        found = nearest.search(query_D, k=50, barred_I=barred_I, exclude=exclude)
        expected = best_of(nearest.vector_ID @ query_D, k=50, barred_I=barred_I, exclude=exclude)
        np.testing.assert_allclose(found.score_K, expected.score_K, rtol=1e-4, atol=1e-6)
        assert len(set(found.row_K.tolist()) ^ set(expected.row_K.tolist())) <= 2, "but for rounding at the end"


small = arrays(np.float32, (30, 3), elements=st.integers(-3, 3).map(float))


@settings(max_examples=60, deadline=None)
@given(small, arrays(np.float32, 3, elements=st.integers(-3, 3).map(float)), st.integers(0, 40))
def test_ties_go_by_row(vector_ID: FloatArray, query_D: FloatArray, k: int) -> None:
    found, expected = NearestItems(vector_ID).search(query_D, k=k), best_of(vector_ID @ query_D, k=k)
    np.testing.assert_array_equal(found.row_K, expected.row_K)
    np.testing.assert_array_equal(found.score_K, expected.score_K)


def test_lengths_and_weights_count() -> None:
    random = np.random.default_rng(1)
    vector_ID, plus_I = trained(random, ROWS), random.random(ROWS).astype(np.float32)
    query_D, length_I = spherical(random, 1)[0], lengths(vector_ID)
    found = NearestItems(vector_ID, length_I=length_I, plus_I=plus_I).search(query_D, k=20, weight=-2.5)
    expected = best_of((vector_ID @ query_D) / length_I - np.float32(2.5) * plus_I, k=20)
    np.testing.assert_array_equal(found.row_K, expected.row_K)
    np.testing.assert_allclose(found.score_K, expected.score_K, rtol=1e-4)


def test_the_list_is_as_long_as_there_are_rows_that_may_come() -> None:
    nearest, barred_I = NearestItems(np.ones((10, 4), dtype=np.float32)), np.arange(10) > 6
    found = nearest.search(
        np.ones(4, dtype=np.float32), k=20, barred_I=barred_I, exclude=np.array([2, 0], dtype=np.int32)
    )
    assert found.row_K.tolist() == [1, 3, 4, 5, 6] and found.score_K.tolist() == [4.0] * 5
    assert len(nearest.search(np.ones(4, dtype=np.float32), k=0)) == 0


@pytest.mark.parametrize("dimensions", [1, LANES, LANES + 1, 300])
def test_vectors_may_be_of_any_length(dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    vector_ID = random.standard_normal((500, dimensions), dtype=np.float32)
    found = NearestItems(vector_ID).search(vector_ID[7] * 1e6, k=10)
    np.testing.assert_array_equal(found.row_K, best_of(vector_ID @ vector_ID[7], k=10).row_K)


def test_a_query_that_is_no_number_is_refused() -> None:
    with pytest.raises(FloatingPointError, match="NaN"):
        NearestItems(np.ones((2, 2), dtype=np.float32)).search(np.array([1.0, np.nan], dtype=np.float32), k=1)


def test_codes_are_never_further_off_than_they_say() -> None:
    vector_ID = trained(np.random.default_rng(2), ROWS)
    codes = Codes.of(vector_ID)
    decoded_ID = codes.code_IW[:, : vector_ID.shape[1]] * codes.scale_I[:, None].astype(np.float64)
    assert (np.linalg.norm(vector_ID - decoded_ID, axis=1) <= codes.error_I).all()


def test_directions_have_length_one_or_none() -> None:
    direction_KD = Directions(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))[np.array([1, 0])]
    np.testing.assert_allclose(np.linalg.norm(direction_KD, axis=1), [0.0, 1.0], rtol=1e-6)


def test_no_second_process_compiles_again() -> None:
    code = "from bespoke.models.nearest_kernel import search_of; print(sum(search_of(32).stats.cache_misses.values()))"
    search_of(32)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("0\n", "")
