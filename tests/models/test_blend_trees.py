"""The trees of a blend."""

import numpy as np
import pytest

from bespoke.models.arrays import FloatArray
from bespoke.models.blend_trees import Trees, grow

Group = tuple[FloatArray, FloatArray]


def group(random: np.random.Generator) -> Group:
    """Twenty candidates; taken is what is high in exactly one of two features."""
    feature_CF = random.random((20, 3)).astype(np.float32)
    return feature_CF, ((feature_CF[:, 0] > 0.5) != (feature_CF[:, 1] > 0.5)).astype(np.float32)


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    random = np.random.default_rng(0)
    return [group(random) for _ in range(200)]


def test_trees_learn_what_no_sum_can_say(groups: list[Group]) -> None:
    trees, unseen = grow(groups, trees=50, seed=0), [group(np.random.default_rng(seed)) for seed in range(1, 20)]
    for feature_CF, taken_C in unseen:
        first = np.argsort(-trees.scores(feature_CF))[: int(taken_C.sum())]
        assert taken_C[first].mean() > 0.8


def test_scores_are_those_of_a_tree_read_by_hand() -> None:
    """The second feature up to 0.5 gives 10; above, the first one decides between 20 and 30."""
    node_TNF = np.zeros((1, 15, 5), dtype=np.float32)
    node_TNF[0, :, 2] = node_TNF[0, :, 3] = np.arange(15)
    node_TNF[0, 0] = (1, 0.5, 1, 2, 0)
    node_TNF[0, 1, 4] = 10
    node_TNF[0, 2] = (0, 0.25, 3, 4, 0)
    node_TNF[0, 3, 4], node_TNF[0, 4, 4] = 20, 30
    feature_CF = np.array([[0.0, 0.5], [0.25, 0.6], [0.3, 0.6]], dtype=np.float32)
    assert Trees(node_TNF).scores(feature_CF).tolist() == [10, 20, 30]


def test_trees_add_up(groups: list[Group]) -> None:
    trees, (feature_CF, _) = grow(groups, trees=6, seed=0), groups[0]
    singly = sum(Trees(trees.node_TNF[n : n + 1]).scores(feature_CF) for n in range(6))
    np.testing.assert_allclose(trees.scores(feature_CF), singly, rtol=1e-5)
    np.testing.assert_array_equal(Trees.none().scores(feature_CF), np.zeros(20))
