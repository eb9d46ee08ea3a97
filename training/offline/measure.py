"""Measuring lists: every metric, for everybody and by cohort, with intervals over people.

Shapes: S people with at least one relevant item, K ranks, M metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from bespoke.catalog import Catalog
from bespoke.models import metrics
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.statistics.bootstrap import bootstrap_means
from bespoke.statistics.paired import paired_difference
from training.offline.items import content_features
from training.offline.lines import Lines
from training.offline.ranking import Rules, hits

POPULAR_SHARE = 0.2
"""The most popular fifth of the items is called popular."""
PROJECTED = 64
"""Numbers per item where its people are projected to compare it with other items."""
Values = dict[str, AnyArray]


@dataclass(frozen=True)
class Task:
    """Whom to rank for, and what turned out to be right."""

    rules: Rules
    relevant: AnyArray
    """The pairs that are right, ascending."""
    catalog: Catalog
    ks: Sequence[int]

    @property
    def train(self) -> Lines:
        """What models may learn from."""
        return self.rules.train

    @cached_property
    def relevant_U(self) -> AnyArray:
        """How many items are right for each user."""
        ids = self.train.ids
        return np.bincount(self.relevant // max(1, len(ids.items)), minlength=len(ids.users))

    @cached_property
    def user_rows(self) -> AnyArray:
        """The users for whom anything is right."""
        return np.flatnonzero(self.relevant_U)

    @cached_property
    def vector_ID(self) -> FloatArray:
        """A vector of length one for each item; see :func:`item_vectors`."""
        return item_vectors(self.train, self.catalog)

    @cached_property
    def popular_I(self) -> AnyArray:
        """Whether an item is of the most popular fifth of train's items; of equal ones those that come first by id."""
        count_I = self.train.lines_I
        most = int(np.ceil(POPULAR_SHARE * (count_I > 0).sum()))
        popular_I = np.zeros(len(count_I), dtype=np.bool_)
        popular_I[np.argsort(-count_I, kind="stable")[:most]] = True
        return popular_I

    def cohorts(self) -> dict[str, tuple[str, AnyArray]]:
        """Return what each cohort is, and which of ``user_rows`` are in it [S]."""
        lines_S = self.train.lines_U[self.user_rows]
        known = lines_S[lines_S > 0]
        middle = int(np.median(known)) if len(known) else 0
        return {
            "new": ("no line in train", lines_S == 0),
            "light": (f"1 to {middle} lines in train", (lines_S > 0) & (lines_S <= middle)),
            "heavy": (f"more than {middle} lines in train", lines_S > middle),
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """What one model's lists come to."""

    values: Values
    """The ranking metrics of each person [S], by name."""
    lists: dict[str, float]
    """What is measured over all lists together, by name."""

    @property
    def means(self) -> dict[str, float]:
        """Every metric."""
        return {name: float(values_S.mean()) for name, values_S in self.values.items()} | self.lists


def ranking_values(best_SK: RowArray, user_rows: AnyArray, task: Task) -> Values:
    """Return the ranking metrics [S] of lists for these users."""
    hit_SK = hits(best_SK, user_rows, task.relevant, task.train)
    return metrics.values_of_lists(hit_SK, task.relevant_U[user_rows], ks=task.ks)


def measured(best_SK: RowArray, task: Task, *, items: int) -> Measured:
    """Return every metric of the lists for all of the task's users; ``items`` is how many the model could show."""
    lists: dict[str, float] = {}
    for k in task.ks:
        shown_SK = best_SK[:, :k]
        lists[f"coverage@{k}"] = metrics.coverage_of_lists(shown_SK, items=items)
        lists[f"novelty@{k}"] = metrics.novelty_of_lists(shown_SK, count_I=task.train.lines_I)
        lists[f"diversity@{k}"] = metrics.diversity_of_lists(shown_SK, vector_ID=task.vector_ID)
        lists[f"popularity_share@{k}"] = metrics.popular_share_of_lists(shown_SK, popular_I=task.popular_I)
    return Measured(ranking_values(best_SK, task.user_rows, task), lists)


def intervals(values: Values, *, seed: int) -> dict[str, dict[str, float]]:
    """Return the 95% bootstrap interval of each metric's mean over people."""
    bounds = bootstrap_means(np.stack(list(values.values()), axis=1), seed=seed)
    return {name: {"low": one.low, "high": one.high} for name, one in zip(values, bounds, strict=True)}


def by_cohort(found: Measured, task: Task) -> dict[str, dict[str, Any]]:
    """Return the ranking metrics of each cohort, and how many people are in it."""
    described: dict[str, dict[str, Any]] = {}
    for name, (about, mask_S) in task.cohorts().items():
        means = {key: float(values_S[mask_S].mean()) for key, values_S in found.values.items()} if mask_S.any() else {}
        described[name] = {"n": int(mask_S.sum()), "about": about, "metrics": means}
    return described


def differences(one: Measured, other: Measured) -> dict[str, dict[str, float | None]]:
    """Return the mean difference of each ranking metric, person by person, with its 95% interval."""
    found: dict[str, dict[str, float | None]] = {}
    for name, values_S in one.values.items():
        interval = paired_difference(values_S, other.values[name])
        # One person says nothing about how much people differ.
        bounds = (interval.low, interval.high) if interval.clusters > 1 else (None, None)
        found[name] = {"mean": interval.mean, "low": bounds[0], "high": bounds[1]}
    return found


def item_vectors(train: Lines, catalog: Mapping[Any, Any]) -> FloatArray:
    """Return a vector of length one for each item, whose products are the likeness of two items.

    With a catalog that says categories or brands: one axis for each level of a category and each brand. Otherwise the
    people who took the item, projected at random to fewer axes, which keeps cosines within about a tenth.
    Source: Johnson and Lindenstrauss 1984.
    """
    features = content_features(catalog, train.ids.items)
    if any(features):
        number = {name: n for n, name in enumerate(sorted({name for names in features for name in names}))}
        rows = np.repeat(np.arange(len(features)), [len(names) for names in features])
        table = _table(rows, np.array([number[name] for names in features for name in names]), train, len(number))
        if len(number) <= PROJECTED:
            return _unit(table.toarray().astype(np.float32))
        return _unit(_projected(table))
    taken = np.unique(np.stack([train.item_N, train.user_N]), axis=1)
    return _unit(_projected(_table(taken[0], taken[1], train, len(train.ids.users))))


def _table(rows: AnyArray, columns: AnyArray, train: Lines, width: int) -> csr_array:
    return csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(train.ids.items), width))


def _projected(table: csr_array) -> FloatArray:
    axes = np.random.default_rng(0).normal(size=(table.shape[1], PROJECTED)).astype(np.float32)
    projected: FloatArray = np.asarray(table @ axes, dtype=np.float32)
    return projected


def _unit(vector_ID: FloatArray) -> FloatArray:
    length_I = np.linalg.norm(vector_ID, axis=1, keepdims=True)
    unit_ID: FloatArray = (vector_ID / np.where(length_I > 0, length_I, 1.0)).astype(np.float32)
    return unit_ID
