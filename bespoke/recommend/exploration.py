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
    places, propensities = list(range(length)), [1.0] * length
    open_places = [place for place, is_pinned in enumerate(pinned[:length].tolist()) if not is_pinned]
    pool = min(settings.pool, candidates - length)
    # Fewer candidates than places: only so many places take part, the last ones.
    open_places = open_places[max(len(open_places) - pool, 0) :]
    if settings.share and open_places:
        # Of a string, Random takes the SHA-512: the same draws on every machine.
        random = Random(seed)
        below = random.sample(range(length, length + pool), len(open_places))
        for place, candidate in zip(open_places, below, strict=True):
            is_drawn = random.random() < settings.share
            propensities[place] = settings.share / pool if is_drawn else 1.0 - settings.share
            if is_drawn:
                places[place] = candidate
    return Explored(np.array(places, dtype=np.int64), np.array(propensities))
