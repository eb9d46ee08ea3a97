"""Two lists in one: each person sees items of both versions, and clicks say which version they prefer."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

Item = TypeVar("Item", bound=Hashable)


def team_draft(
    one: Sequence[Item], other: Sequence[Item], *, length: int, random: np.random.Generator
) -> tuple[list[Item], list[int]]:
    """Return a merged list and which version gave each item: 0 for the first, 1 for the other.

    In each round a coin decides who picks first, and either picks its best item that is not in the list yet.
    Source: Radlinski, Kurup and Joachims 2008, "How Does Clickthrough Data Reflect Retrieval Quality?".

    >>> team_draft(["a", "b"], ["a", "c"], length=2, random=np.random.default_rng(0))[0][0]
    'a'
    """
    lists, taken = (one, other), set[Item]()
    places, merged, teams = [0, 0], list[Item](), list[int]()
    while len(merged) < length:
        before = len(merged)
        first = int(random.integers(2))
        for team in (first, 1 - first):
            ranked = lists[team]
            while places[team] < len(ranked) and ranked[places[team]] in taken:
                places[team] += 1
            if places[team] < len(ranked) and len(merged) < length:
                item = ranked[places[team]]
                taken.add(item)
                merged.append(item)
                teams.append(team)
        if len(merged) == before:
            break
    return merged, teams


@dataclass(frozen=True, slots=True)
class Preference:
    """Which version people prefer."""

    share: float
    """Of those who prefer one, the share that prefers the other version to the first; 0.5 is a draw."""
    people: int
    """Who prefer one."""
    low: float
    high: float
    p_value: float


def preference(clicks_one: Sequence[int], clicks_other: Sequence[int], *, confidence: float = 0.95) -> Preference:
    """Return which version's items people clicked more often; each person has one vote.

    Args:
        clicks_one: each person's clicks on items that the first version gave.
        clicks_other: the same people's clicks on the other's.
        confidence: coverage of the interval, 0..1.

    >>> preference([0, 0, 1], [1, 2, 1]).share
    1.0
    """
    gap = np.asarray(clicks_other) - np.asarray(clicks_one)
    wins, people = int((gap > 0).sum()), int((gap != 0).sum())
    if not people:
        return Preference(0.5, 0, 0.0, 1.0, 1.0)
    test = stats.binomtest(wins, people)
    interval = test.proportion_ci(confidence, method="wilson")
    return Preference(wins / people, people, float(interval.low), float(interval.high), float(test.pvalue))
