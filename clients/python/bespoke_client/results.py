"""What calls return: the service's answers, typed. Fields that a newer service adds are left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list."""

    item_id: str
    score: float
    """Comparable within one list only."""
    source: str
    """What put it there."""
    reasons: tuple[str, ...]
    """Why, in words for people."""
    rules: tuple[str, ...]
    """Business rules and promotions that put or moved it."""
    name: str | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """One experiment that the person takes part in."""

    experiment: str
    variant: str


@dataclass(frozen=True, slots=True)
class Recommendations:
    """A list, and how it came about."""

    recommendation_id: str
    """To be sent as ``recommendation_id`` with events that follow from the list."""
    items: tuple[Item, ...]
    experiment: str | None
    variant: str | None
    assignments: tuple[Assignment, ...]
    model_version: str | None
    degraded: str | None
    """Why the list is less personal than it could be; None where it is not."""
    skipped: tuple[str, ...]
    """What was left out because it was late."""
    reflects: bool | None
    """Whether the list reflects the events of ``after``; None without it."""
    next_page: str | None
    """For ``page`` of the next call; None where nothing is left."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items, best first."""
        return tuple(item.item_id for item in self.items)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read an answer."""
        return cls(
            recommendation_id=found["recommendationId"],
            items=tuple(map(_item, found["items"])),
            experiment=found["experiment"],
            variant=found["variant"],
            assignments=tuple(Assignment(one["experiment"], one["variant"]) for one in found.get("assignments", ())),
            model_version=found["modelVersion"],
            degraded=found["degraded"],
            skipped=tuple(found.get("skipped", ())),
            reflects=found.get("reflects"),
            next_page=found.get("nextPage"),
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a person."""

    user_id: str
    as_of: datetime | None
    """When the newest event that is in here was received."""
    features: Mapping[str, float | str | None]
    traits: Mapping[str, Any]
    segments: tuple[str, ...]
    version: int
    reflects: bool | None
    stale: bool
    degraded: str | None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read an answer."""
        as_of = found["asOf"]
        return cls(
            user_id=found["userId"],
            as_of=None if as_of is None else datetime.fromisoformat(as_of),
            features=found["features"],
            traits=found["traits"],
            segments=tuple(found["segments"]),
            version=found["version"],
            reflects=found["reflects"],
            stale=found["stale"],
            degraded=found["degraded"],
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """One event that was refused, and why."""

    index: int
    """Its place in what was sent, from 0."""
    message_id: str | None
    field: str
    value: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """Events are durable: what became of them."""

    accepted: int
    token: str
    """For ``after`` of a list that has to reflect these events."""
    rejected: tuple[Rejected, ...]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read an answer."""
        return cls(found["accepted"], found["token"], tuple(map(_rejected, found.get("rejected", ()))))


def _item(found: Mapping[str, Any]) -> Item:
    return Item(
        item_id=found["itemId"],
        score=found["score"],
        source=found["source"],
        reasons=tuple(found["reasons"]),
        rules=tuple(found.get("rules", ())),
        name=found.get("name"),
    )


def _rejected(found: Mapping[str, Any]) -> Rejected:
    return Rejected(found["index"], found["messageId"], found["field"], found["value"], found["allowed"])
