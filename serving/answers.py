"""An answer as the recommender makes it: plain values, which become the body of a RecommendationResponse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bespoke.events import ItemId
from bespoke.recommend import Decision
from serving.asking import Ask
from serving.paging import to_page
from serving.people import PersonState
from serving.snapshot import Choice


@dataclass(frozen=True, slots=True)
class Answer:
    """One list, and how it came about: the fields of :class:`serving.recommendation_forms.RecommendationResponse`."""

    recommendation_id: str
    items: Sequence[Mapping[str, Any]]
    experiment: str | None
    variant: str | None
    assignments: Sequence[Mapping[str, str]]
    model_version: str | None
    degraded: str | None
    skipped: tuple[str, ...]
    reflects: bool | None
    next_page: str | None

    @classmethod
    def of(
        cls, ask: Ask, decision: Decision, choice: Choice, state: PersonState, *, id: str, unassigned: str | None
    ) -> "Answer":
        """Return the answer with a decision.

        Args:
            ask: what was asked.
            decision: the list.
            choice: what made it.
            state: what was known of the person.
            id: the recommendation's.
            unassigned: why the stored assignments played no part, if so.
        """
        placement, ids = choice.placement, [item.item_id for item in decision.items]
        names = _names(choice, ids)
        return cls(
            id,
            [
                {
                    "itemId": item.item_id,
                    "score": item.score,
                    "source": item.source,
                    "reasons": item.reasons,
                    "rules": item.rules,
                    "name": name,
                }
                for item, name in zip(decision.items, names, strict=True)
            ],
            placement.experiment,
            placement.variant,
            [{"experiment": one.experiment, "variant": one.variant} for one in placement.assignments],
            choice.version,
            decision.degraded or choice.degraded or unassigned,
            decision.skipped,
            state.reflects,
            to_page([*ask.shown, *ids]) if len(ids) == ask.form.num_results else None,
        )

    def to_json(self) -> bytes:
        """Return the body; by way of the form, with one more an item, it takes ten times as long."""
        return orjson.dumps(
            {
                "recommendationId": self.recommendation_id,
                "items": self.items,
                "experiment": self.experiment,
                "variant": self.variant,
                "assignments": self.assignments,
                "modelVersion": self.model_version,
                "degraded": self.degraded,
                "skipped": self.skipped,
                "reflects": self.reflects,
                "nextPage": self.next_page,
            }
        )


def _names(choice: Choice, ids: Sequence[ItemId]) -> list[str | None]:
    """Return the items' names; None where the catalog has none."""
    table = choice.engine.sources.table
    # The column once: to find it costs as much as a name.
    rows, column = table.items.rows(ids).tolist(), table.arrow["name"]
    return [column[row].as_py() if row >= 0 else None for row in rows]
