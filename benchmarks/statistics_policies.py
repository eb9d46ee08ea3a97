"""A simulator with known rewards: two rankers, real exploration, and people who click by what is shown and where."""

import numpy as np

from benchmarks.harness import Figures
from bespoke.recommend.exploration import explore
from bespoke.recommend.settings import Exploration
from bespoke.statistics.arm import Values
from bespoke.statistics.off_policy import Estimated, inverse_propensity
from bespoke.statistics.position_based import Lists, position_based, with_places

REPEATS = 200
PEOPLE, ANSWERS = 2_000, 5
KINDS, ITEMS, PLACES = 4, 15, 5
"""Kinds of people, items to choose from, places of a list."""
EXPLORED = Exploration(share=0.2, pool=ITEMS - PLACES)
SEEN_PLACE = 0.85
"""The next place is looked at by so many of those who looked at the one before."""


def off_policy(random: np.random.Generator) -> Figures:
    """Return coverage of our interval, and its width against that of one which knows how places are looked at."""
    held, ratios = [], []
    for _ in range(REPEATS):
        world = _World(random)
        ours, oracle = world.estimates(random)
        held.append(ours.low <= world.truth() <= ours.high)
        ratios.append(ours.width / oracle.width)
    return {"ope_coverage": float(np.mean(held)), "ope_width_ratio": float(np.median(ratios))}


class _World:
    """Click rates that nobody knows, and two rankers that guess them."""

    def __init__(self, random: np.random.Generator) -> None:
        rate_KI = random.beta(2, 12, (KINDS, ITEMS))
        self.click_KIP = rate_KI[:, :, None] * SEEN_PLACE ** np.arange(PLACES)
        noise = 0.08 * random.normal(size=(2, KINDS, ITEMS))
        self.order_KI = np.argsort(-(rate_KI + noise[0]), axis=1)
        self.other_KI = np.argsort(-(rate_KI + noise[1]), axis=1)

    def truth(self) -> float:
        """Return the other ranker's mean reward per slot, all kinds of people alike."""
        chance = _chances(self.other_KI)
        return float((chance * self.click_KIP).sum() / (KINDS * PLACES))

    def estimates(self, random: np.random.Generator) -> tuple[Estimated, Estimated]:
        """Show lists to everybody; return our estimate from what is logged, and that of the true propensities."""
        person_N = np.repeat(np.arange(PEOPLE), ANSWERS)
        kind_N = random.integers(KINDS, size=PEOPLE)[person_N]
        shown, logged = [], []
        for n, kind in enumerate(kind_N):
            explored = explore(
                ITEMS,
                num_results=PLACES,
                pinned=np.zeros(PLACES, dtype=np.bool_),
                settings=EXPLORED,
                seed=f"{random.random()}:{n}",
            )
            shown.append(self.order_KI[kind][explored.place_K])
            logged.append(explored.propensity_K)
        item_S, place_S = np.concatenate(shown), np.tile(np.arange(PLACES), len(kind_N))
        kind_S, unit_S = np.repeat(kind_N, PLACES), np.repeat(person_N, PLACES)
        click_S = (random.random(len(item_S)) < self.click_KIP[kind_S, item_S, place_S]).astype(np.float64)
        target_SP = _chances(self.other_KI)[kind_S, item_S]
        logged_S = np.concatenate(logged)
        drawn_S = logged_S == EXPLORED.share / EXPLORED.pool
        # A drawn item could have come to each of the places.
        shown_S = np.where(drawn_S, logged_S * PLACES, logged_S)
        lists = Lists(unit_S, place_S, click_S, shown_S, drawn_S, target_SP)
        looked_P: Values = SEEN_PLACE ** np.arange(PLACES, dtype=np.float64)
        return position_based(lists), inverse_propensity(with_places(lists, looked_P))


def _chances(order_KI: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Values:
    """Return the probability of each item at each place, [K, I, P], by the rule of exploration."""
    chance = np.zeros((KINDS, ITEMS, PLACES))
    for kind, order in enumerate(order_KI):
        chance[kind, order[PLACES:], :] = EXPLORED.share / EXPLORED.pool
        chance[kind, order[:PLACES], np.arange(PLACES)] = 1 - EXPLORED.share
    return chance
