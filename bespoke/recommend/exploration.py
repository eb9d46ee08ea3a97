"""Exploration: places that are given to chance, with the probability of everything that may come there."""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt

from bespoke.recommend.settings import Exploration


@dataclass(frozen=True, slots=True)
class Explored:
    """The list after exploration. K places."""

    place_K: npt.NDArray[np.int64]
    """Which candidate stands at each place."""
    propensity_K: npt.NDArray[np.float64]
    """The marginal probability with which this candidate comes at this place, over the draws of all seeds."""


def explore(
    candidates: int, *, num_results: int, pinned: npt.NDArray[np.bool_], settings: Exploration, seed: str
) -> Explored:
    """Give some of the first ``num_results`` places to candidates from below the list.

    Each place that is not pinned is drawn with probability ``share``, independently of the others. The candidates below
    the list are shuffled, and the n-th place that may be drawn takes the n-th of them: nothing comes twice, and at each
    place every one of the pool is as probable as any other. So the marginal probabilities are exact: ``1 - share`` for
    the candidate that stood there, ``share / pool`` for each of the pool, 1 where nothing is drawn.

    Args:
        candidates: how many there are in order, the list first.
        num_results: how long the list is.
        pinned: which of the places may not be drawn.
        settings: share and pool.
        seed: the same seed draws the same.
    """
    length = min(num_results, candidates)
    place_K = np.arange(length)
    propensity_K = np.ones(length)
    open_K = np.flatnonzero(~pinned[:length])
    pool = min(settings.pool, candidates - length)
    # Fewer candidates than places: only so many places take part, the last ones.
    open_K = open_K[max(len(open_K) - pool, 0) :]
    if not settings.share or not len(open_K):
        return Explored(place_K, propensity_K)
    # Of a string, Random takes the SHA-512: the same draws on every machine.
    random = Random(seed)
    below = np.array(random.sample(range(length, length + pool), len(open_K)))
    drawn = np.array([random.random() < settings.share for _ in open_K])
    place_K[open_K] = np.where(drawn, below, place_K[open_K])
    propensity_K[open_K] = np.where(drawn, settings.share / pool, 1.0 - settings.share)
    return Explored(place_K, propensity_K)
