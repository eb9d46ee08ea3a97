"""The gate: a model may serve if it is no worse than what serves now, and better than the baselines."""

import math
from collections.abc import Mapping

from bespoke.errors import TrainingError
from bespoke.events import ItemId, UserId
from bespoke.models.base import Basis, Model
from bespoke.models.history import History
from bespoke.models.verdict import Comparison, Verdict
from bespoke.statistics.paired import clustered_difference
from training.champion import CHAMPION
from training.evaluate import Measured

METRIC = "ndcg@20"
MARGIN_SHARE = 0.01
"""By how much of the champion's mean the lower end of the interval may lie below zero."""
BASELINES = ("buy_again", "popularity")
COLLAPSED_AFTER = 20
"""So many people with a history of their own, all with one list: the model has collapsed."""


def judge(kind: str, measured: Measured, others: Mapping[str, Measured]) -> Verdict:
    """Compare a model with the champion and with the baselines, on the same baskets, clustered by person.

    Args:
        kind: of the model; a baseline need not beat itself or the other one.
        measured: what it showed.
        others: the champion's measurement under :data:`CHAMPION`, if anything serves, and those of the baselines.
    """
    comparisons = {name: compared(name, measured, other) for name, other in others.items() if name != kind}
    reasons = []
    if CHAMPION in comparisons and (reason := _worse_than_champion(comparisons[CHAMPION])):
        reasons.append(reason)
    if kind not in BASELINES:
        reasons += [_not_better(comparisons[name]) for name in BASELINES if not _better(comparisons.get(name))]
    return Verdict(passed=not reasons, reasons=tuple(reasons), comparisons=tuple(comparisons.values()))


def compared(name: str, measured: Measured, other: Measured) -> Comparison:
    """Return ``measured`` less ``other``, which is called ``name``, on the same baskets."""
    ones, others = measured.values[METRIC], other.values[METRIC]
    difference = clustered_difference(ones, others, measured.people)
    bounds = (difference.low, difference.high) if math.isfinite(difference.low) else (None, None)
    return Comparison(
        against=name,
        metric=METRIC,
        mean=float(ones.mean()),
        other_mean=float(others.mean()),
        low=bounds[0],
        high=bounds[1],
        cases=difference.cases,
        people=difference.clusters,
    )


def _worse_than_champion(comparison: Comparison) -> str | None:
    allowed = -MARGIN_SHARE * comparison.other_mean
    if comparison.low is not None and comparison.low >= allowed:
        return None
    return f"not shown to be as good as the {comparison}; its lower end may be {allowed:+.4f} at the least"


def _better(comparison: Comparison | None) -> bool:
    return comparison is None or comparison.mean > comparison.other_mean


def _not_better(comparison: Comparison) -> str:
    return f"not better than {comparison}"


def require_sound(model: Model, people: Mapping[UserId, History], ranked: Mapping[UserId | None, list[ItemId]]) -> None:
    """Make sure that a model did not collapse.

    Args:
        model: the one that ranked.
        people: histories, by id.
        ranked: its list for each of them, best first.

    Raises:
        TrainingError: nobody got a list, or all people whose history it rests on got one and the same.
    """
    if not any(ranked.values()):
        raise TrainingError(f"{model.kind} ranks nothing for anybody; look at its settings")
    basis = {id: model.basis(people[id]) for id in ranked if id is not None and id in people}
    personal = [id for id, found in basis.items() if found is not Basis.POPULARITY]
    lists = {tuple(ranked[id]) for id in personal}
    if len(personal) >= COLLAPSED_AFTER and len(lists) == 1:
        raise TrainingError(
            f"{model.kind} has collapsed: {len(personal)} people with histories of their own all get one list; "
            "look at its settings, such as regularisation"
        )
