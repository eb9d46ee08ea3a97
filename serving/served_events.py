"""What was shown, and what a shadow would have shown, as events of the log."""

from typing import Any

from bespoke.events import (
    RECOMMENDATION_SERVED,
    RECOMMENDATION_SHADOWED,
    Event,
    EventType,
    MessageId,
    UserId,
    person_id,
)
from bespoke.recommend import Decision
from serving.answers import Answer
from serving.asking import Ask
from serving.decisions import RECORD, DecisionRecord
from serving.snapshot import Choice
from storage.eventlog import Message


def served(
    ask: Ask, answer: Answer, decision: Decision, choice: Choice, record: DecisionRecord, *, at_ms: int
) -> Message:
    """Return an answer as an event; its id follows from the recommendation's, so a repeat is the same event."""
    properties: dict[str, Any] = {
        "recommendation_id": answer.recommendation_id,
        "items": _items(decision),
        "experiment": answer.experiment,
        "variant": answer.variant,
        "assignments": [
            {"experiment": one.experiment, "variant": one.variant, "phase": one.phase, "override": one.override}
            for one in choice.placement.assignments
        ],
        "model_version": answer.model_version,
        "pipeline": choice.placement.pipeline,
        "degraded": answer.degraded,
        "surface": ask.form.surface,
        "channel": ask.form.channel,
        "item_id": ask.item_id,
        "context": ask.form.context,
        RECORD: record.to_properties(),
    }
    return _message(ask, RECOMMENDATION_SERVED, f"served-{answer.recommendation_id}", properties, answer, at_ms=at_ms)


def shadowed(
    ask: Ask, answer: Answer, decision: Decision, *, variant: str, model_version: str | None, at_ms: int
) -> Message:
    """Return what a shadow variant would have shown beside an answer."""
    properties: dict[str, Any] = {
        "recommendation_id": answer.recommendation_id,
        "items": _items(decision),
        "experiment": answer.experiment,
        "variant": variant,
        "model_version": model_version,
        "degraded": decision.degraded,
    }
    id = f"shadowed-{answer.recommendation_id}-{variant}"
    return _message(ask, RECOMMENDATION_SHADOWED, id, properties, answer, at_ms=at_ms)


def _items(decision: Decision) -> list[dict[str, object]]:
    return [
        {
            "product_id": item.item_id,
            "position": position,
            "source": item.source,
            "score": round(item.score, 6),
            "propensity": item.propensity,
        }
        for position, item in enumerate(decision.items, start=1)
    ]


def _message(ask: Ask, name: str, id: str, properties: dict[str, Any], answer: Answer, *, at_ms: int) -> Message:
    user_id, anonymous_id = ask.ids
    if ask.person is None:
        # Nobody was named: the list is its own visitor, so that outcomes can still be joined by its id.
        anonymous_id = answer.recommendation_id
    event = Event(
        message_id=MessageId(id),
        type=EventType.TRACK,
        name=name,
        user_id=user_id,
        anonymous_id=anonymous_id,
        at_ms=at_ms,
        received_ms=at_ms,
        properties=properties,
    )
    person: UserId = person_id(user_id, anonymous_id)
    return Message(person, event.message_id, event.received_ms, event.to_payload())
