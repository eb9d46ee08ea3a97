"""Boosted trees that put a person's candidates in order: grown by LightGBM, kept and read as one plain array.

Shapes: T trees, N nodes of a tree, C candidates of one person, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bespoke.errors import BundleError
from bespoke.models.arrays import FloatArray

LEAVES = 8
DEPTH = 5
NODES = 2 * LEAVES - 1
FIELDS = ("feature", "threshold", "left", "right", "value")
"""What a node holds. A leaf is its own left and right; so walking on from it changes nothing."""
MOST_BASKETS = 5
"""Taken in more baskets than this counts no more."""
SETTINGS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 30,
    "num_leaves": LEAVES,
    "max_depth": DEPTH,
    "learning_rate": 0.1,
    "min_data_in_leaf": 100,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


@dataclass(frozen=True)
class Trees:
    """The sum of the values that T trees give."""

    node_TNF: FloatArray
    """[T, NODES, FIELDS]; numbers of features and nodes as floats, since bundles hold nothing else."""

    def __len__(self) -> int:
        return len(self.node_TNF)

    def first(self, count: int) -> "Trees":
        """Return the first trees only."""
        return Trees(self.node_TNF[:count])

    @classmethod
    def none(cls) -> "Trees":
        """Return no trees at all."""
        return cls(np.zeros((0, NODES, len(FIELDS)), dtype=np.float32))

    @cached_property
    def _flat(self) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.int64], FloatArray]:
        """The feature, threshold, (right, left) and value of every node of all trees in a row."""
        trees = len(self.node_TNF)
        offset_T1 = np.arange(trees, dtype=np.int64)[:, None] * NODES
        whole_TNF = self.node_TNF.astype(np.int64)
        child = np.stack([whole_TNF[:, :, 3] + offset_T1, whole_TNF[:, :, 2] + offset_T1], axis=-1)
        return (
            whole_TNF[:, :, 0].ravel(),
            np.ascontiguousarray(self.node_TNF[:, :, 1]).ravel(),
            child.ravel(),
            np.ascontiguousarray(self.node_TNF[:, :, 4]).ravel(),
        )

    def scores(self, feature_CF: FloatArray) -> FloatArray:
        """Return the sum [C] of what each tree says of each candidate."""
        feature, threshold, child, value = self._flat
        node_CT = np.tile(np.arange(len(self), dtype=np.int64) * NODES, (len(feature_CF), 1))
        flat, start_C1 = feature_CF.ravel(), np.arange(len(feature_CF), dtype=np.int64)[:, None] * feature_CF.shape[1]
        for _ in range(DEPTH):
            goes_left_CT = flat.take(feature.take(node_CT) + start_C1) <= threshold.take(node_CT)
            node_CT = child.take(2 * node_CT + goes_left_CT)
        total_C: FloatArray = value.take(node_CT).sum(axis=1, dtype=np.float32)
        return total_C


def checked_trees(node_TNF: FloatArray, *, features: int) -> Trees:
    """Return the trees of an array from outside.

    Raises:
        BundleError: its shape or a number of a feature or node does not fit.
    """
    if node_TNF.ndim != 3 or node_TNF.shape[1:] != (NODES, len(FIELDS)) or node_TNF.dtype != np.float32:
        raise BundleError(
            f"array 'trees': got {node_TNF.dtype} {node_TNF.shape}, expected (any, {NODES}, {len(FIELDS)})"
        )
    for field, below in ((0, features), (2, NODES), (3, NODES)):
        if not ((node_TNF[:, :, field] >= 0) & (node_TNF[:, :, field] < below)).all():
            raise BundleError(f"array 'trees': a {FIELDS[field]} outside 0..{below - 1}")
    return Trees(node_TNF)


def grow(groups: Sequence[tuple[FloatArray, FloatArray]], *, trees: int, seed: int) -> Trees:
    """Grow trees that put first what was taken; the same seed and groups give the same trees.

    Args:
        groups: per person the features [C, F] of the candidates, and in how many baskets each one was [C].
        trees: how many at most; fewer where nothing more can be told apart.
        seed: of the features that each tree may use.

    Source: Burges 2010, "From RankNet to LambdaRank to LambdaMART: An Overview".
    """
    import lightgbm  # a second to load, and serving has no need of it

    data = lightgbm.Dataset(
        np.concatenate([feature_CF for feature_CF, _ in groups]),
        label=np.concatenate([np.minimum(taken_C, MOST_BASKETS) for _, taken_C in groups]),
        group=[len(taken_C) for _, taken_C in groups],
    )
    booster = lightgbm.train({**SETTINGS, "seed": seed}, data, num_boost_round=trees)
    roots = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    return Trees(np.stack([_tree(root) for root in roots])) if roots else Trees.none()


def _tree(root: dict[str, Any]) -> FloatArray:
    """Return one of LightGBM's trees as nodes [N, FIELDS]."""
    node_NF = np.zeros((NODES, len(FIELDS)), dtype=np.float32)
    node_NF[:, 2] = node_NF[:, 3] = np.arange(NODES)
    waiting, used = [(0, root)], 1
    while waiting:
        place, node = waiting.pop()
        if "split_feature" not in node:
            node_NF[place, 4] = node["leaf_value"]
            continue
        left, right, used = used, used + 1, used + 2
        node_NF[place] = (node["split_feature"], node["threshold"], left, right, 0.0)
        waiting += [(left, node["left_child"]), (right, node["right_child"])]
    return node_NF
