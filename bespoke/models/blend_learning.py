"""How a blend learns on what people did next: weights by amount of history, then trees, each only where it measures.

Shapes: P people, C items of one person's pool, S sources, F features, G buckets of history, K ranks.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bespoke.events import ItemId
from bespoke.models.arrays import AnyArray, FloatArray, RowArray
from bespoke.models.blend_sources import BUCKETS, SOURCES
from bespoke.models.blend_trees import Trees, grow
from bespoke.models.history import History

Case = tuple[History, Set[ItemId]]
"""What was known of a person, and the items of the basket that followed."""

DEFAULT_WEIGHTS = (1.2, 1.0, 0.2, 0.8)
"""In the order of SOURCES."""
FACTORS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.2, 1.4, 2.0, 4.0)
FROM_ZERO = (0.1, 0.4, 1.0)
"""What a weight is multiplied by in search of a better one, and where it goes from zero."""
SIGNED = SOURCES.index("personal")
"""The one source that may speak against an item: where nobody repeats anything, what was taken is done with."""
ROUNDS = 3
LEAST_GAIN = 1e-4
"""A round of the search that gains less is the last one."""
DEFAULT_BASKETS = 100.0
SHARED_BASKETS = 500.0
"""The default weights count as so many baskets beside those seen, the shared weights as so many in each bucket."""
PEOPLE = 4_000
"""Learning looks at no more."""
TREE_PEOPLE = 200
"""Fewer people grow no trees."""
CHECKED_SHARE = 0.25
"""Share of the people on whom trees must add to the weighted sum."""
TREE_STEP = 20
FLOOR = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a blend learns from validation cases; it carries over to a model that is trained up to the present."""

    weights_GS: FloatArray
    trees: Trees

    @classmethod
    def default(cls) -> "Learned":
        """Return what holds before anything was learned."""
        return cls(np.tile(np.array(DEFAULT_WEIGHTS, dtype=np.float32), (len(BUCKETS) + 1, 1)), Trees.none())


@dataclass(frozen=True, slots=True)
class Person:
    """One person's pool: the items that could come first."""

    bucket: int
    baskets: int
    source_CS: FloatArray
    feature_CF: FloatArray
    gain_C: FloatArray
    """What the item adds to the NDCG of the person's baskets if it comes first, summed over them."""
    taken_C: FloatArray
    """In how many of the baskets it is."""


def taken_and_gain(
    row_C: RowArray, baskets: Sequence[tuple[RowArray, int]], *, k: int
) -> tuple[FloatArray, FloatArray]:
    """Return for each item in how many baskets it is, and what it gains there if it comes first.

    Args:
        row_C: ascending rows.
        baskets: the known rows of each and how many items it has altogether.
        k: length of the lists.
    """
    ideal_K = np.cumsum(_discounts(k))
    taken_C, gain_C = (np.zeros(len(row_C), dtype=np.float32) for _ in range(2))
    for rows, items in baskets:
        inside_C = np.isin(row_C, rows)
        taken_C += inside_C
        gain_C += inside_C / np.float32(ideal_K[min(k, items) - 1])
    return taken_C, gain_C


def learn(people: Sequence[Person], *, k: int, candidates: int, trees: int, seed: int) -> Learned:
    """Return the weights and trees that put first what these people took.

    Args:
        people: nobody leaves the defaults.
        k: length of the lists.
        candidates: how many items of a person trees put in order.
        trees: how many at most.
        seed: who is learned from where there are many, and on whom trees are checked.
    """
    if not people:
        return Learned.default()
    order = np.random.default_rng(seed).permutation(len(people))[:PEOPLE]
    some = [people[place] for place in order]
    weights_GS = learn_weights(some, k=k)
    return Learned(weights_GS, _learn_trees(some, weights_GS, k=k, candidates=candidates, trees=trees, seed=seed))


def learn_weights(people: Sequence[Person], *, k: int) -> FloatArray:
    """Return weights [G, S]: those best for everybody, drawn to the default; for each bucket drawn to everybody's."""
    default_S = np.array(DEFAULT_WEIGHTS, dtype=np.float32)
    shared_S = _drawn(_searched(people, default_S, k=k), default_S, people, prior=DEFAULT_BASKETS)
    weights_GS = np.tile(shared_S, (len(BUCKETS) + 1, 1))
    for bucket in range(len(weights_GS)):
        if some := [person for person in people if person.bucket == bucket]:
            weights_GS[bucket] = _drawn(_searched(some, shared_S, k=k), shared_S, some, prior=SHARED_BASKETS)
    return weights_GS


def _drawn(found_S: FloatArray, prior_S: FloatArray, people: Sequence[Person], *, prior: float) -> FloatArray:
    """Return the mean of two sets of weights, by how many baskets speak for the one that was found."""
    share = sum(person.baskets for person in people) / (sum(person.baskets for person in people) + prior)
    # Only the proportions of weights mean anything; the mean needs them on one scale.
    found_S = found_S * np.abs(prior_S).sum() / max(np.abs(found_S).sum(), np.finfo(np.float32).tiny)
    drawn_S: FloatArray = (share * found_S + (1 - share) * prior_S).astype(np.float32)
    return drawn_S


def _searched(people: Sequence[Person], start_S: FloatArray, *, k: int) -> FloatArray:
    """Return the weights with the best NDCG, one source at a time, from ``start_S``."""
    source_PCS, gain_PC, floor_PC = _padded(people)
    weight_S, score_PC = start_S.copy(), source_PCS @ start_S + floor_PC
    best = _total_gain(score_PC, gain_PC, k=k)
    least = LEAST_GAIN * sum(person.baskets for person in people)
    for _ in range(ROUNDS):
        before = best
        for source in range(len(SOURCES)):
            one_PC, old = source_PCS[:, :, source], weight_S[source]
            for tried in _steps(old, signed=source == SIGNED):
                gain = _total_gain(score_PC + (tried - old) * one_PC, gain_PC, k=k)
                if gain > best:
                    best, weight_S[source] = gain, tried
            score_PC = source_PCS @ weight_S + floor_PC
        if best - before < least:
            break
    return weight_S


def _steps(old: float, *, signed: bool) -> list[float]:
    steps = [old * factor for factor in FACTORS] if old else list(FROM_ZERO)
    return [*steps, *(-step for step in steps), -old] if signed else steps


def _padded(people: Sequence[Person]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the sources [P, C, S] and gains [P, C] of everybody's pool, and what pushes down what fills it up."""
    most = max(len(person.gain_C) for person in people)
    source_PCS = np.zeros((len(people), most, len(SOURCES)), dtype=np.float32)
    gain_PC = np.zeros((len(people), most), dtype=np.float32)
    floor_PC = np.full((len(people), most), FLOOR, dtype=np.float32)
    for place, person in enumerate(people):
        source_PCS[place, : len(person.gain_C)] = person.source_CS
        gain_PC[place, : len(person.gain_C)] = person.gain_C
        floor_PC[place, : len(person.gain_C)] = 0.0
    return source_PCS, gain_PC, floor_PC


def _learn_trees(
    people: Sequence[Person], weights_GS: FloatArray, *, k: int, candidates: int, trees: int, seed: int
) -> Trees:
    """Return trees grown on everybody, as many as rank people best who had no part in them; none where that is none."""
    pools = [_candidates(person, weights_GS, candidates) for person in people]
    telling = [pool for pool in pools if pool.taken_C.any()]
    if len(telling) < TREE_PEOPLE or not trees:
        return Trees.none()
    checked = telling[: round(CHECKED_SHARE * len(telling))]
    trial = grow(_groups(telling[len(checked) :]), trees=trees, seed=seed)
    counts = sorted({*range(0, len(trial), TREE_STEP), len(trial)})
    gains = [_tree_gain(checked, weights_GS, trial.first(count), k=k) for count in counts]
    best = counts[int(np.argmax(gains))]
    return grow(_groups(telling), trees=best, seed=seed) if best else Trees.none()


def _candidates(person: Person, weights_GS: FloatArray, count: int) -> Person:
    score_C = person.source_CS @ weights_GS[person.bucket]
    place = np.argsort(-score_C, kind="stable")[:count]
    arrays = (values[place] for values in (person.source_CS, person.feature_CF, person.gain_C, person.taken_C))
    return Person(person.bucket, person.baskets, *arrays)


def _groups(people: Sequence[Person]) -> list[tuple[FloatArray, FloatArray]]:
    return [(person.feature_CF, person.taken_C) for person in people]


def _tree_gain(people: Sequence[Person], weights_GS: FloatArray, trees: Trees, *, k: int) -> float:
    """Return the NDCG that the weighted sum comes to together with trees, summed over baskets."""
    total = 0.0
    for person in people:
        score_C = person.source_CS @ weights_GS[person.bucket] + trees.scores(person.feature_CF)
        total += _total_gain(score_C[None], person.gain_C[None], k=k)
    return total


def _total_gain(score_PC: AnyArray, gain_PC: FloatArray, *, k: int) -> float:
    """Return the discounted gains of everybody's first ``k``, summed."""
    k = min(k, score_PC.shape[1])
    first_PK = np.argpartition(-score_PC, k - 1, axis=1)[:, :k]
    rank_PK = np.argsort(-np.take_along_axis(score_PC, first_PK, axis=1), axis=1, kind="stable")
    gained_PK = np.take_along_axis(gain_PC, np.take_along_axis(first_PK, rank_PK, axis=1), axis=1)
    return float((gained_PK @ _discounts(k)).sum())


def _discounts(k: int) -> npt.NDArray[Any]:
    return 1.0 / np.log2(np.arange(2, k + 2))
