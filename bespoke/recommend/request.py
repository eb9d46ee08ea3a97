"""What one recommendation is asked with, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from bespoke.events import ItemId, UserId
from bespoke.expressions import Expression, Value
from bespoke.profiles import Recent

if TYPE_CHECKING:
    from bespoke.recommend.trace import Trace

FEATURES_UNAVAILABLE = "features_unavailable"
FEATURES_STALE = "features_stale"
"""What is known of the person is too old to be used."""
NO_MODEL = "no_model"
MODEL_FAILED = "model_failed"


class Question(StrEnum):
    """What is asked."""

    PERSON = "person"
    """Items for a person, or for what a session did."""
    SIMILAR = "similar"
    """Items like one item."""
    TRENDING = "trending"
    """Items that are popular now, the same for everybody."""
    RANK = "rank"
    """The caller's own list, in the best order for the person."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items may come: an expression, and the values of its parameters."""

    expression: Expression
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A share of the places for items of a filter."""

    name: str
    filter: Filter
    share: float
    """Of the list, 0..1; rounded up to whole places."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, with what is known of the person. With one engine it has one answer."""

    user_id: UserId | None
    at_ms: int
    num_results: int = 20
    question: Question = Question.PERSON
    recent: tuple[Recent, ...] = ()
    """The person's newest lines, oldest first, as in the profile."""
    item_id: ItemId | None = None
    """The item that is being looked at: it counts as viewed now and is left out of the answer."""
    rank: tuple[ItemId, ...] = ()
    """The list to put in order, where that is the question."""
    exclude: frozenset[ItemId] = frozenset()
    exclude_seen: bool = False
    """Leave out every item of ``recent``."""
    filter: Filter | None = None
    promotions: tuple[Promotion, ...] = ()
    segments: frozenset[str] = frozenset()
    surface: str | None = None
    channel: str | None = None
    context: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    shown: Mapping[ItemId, int] = field(default_factory=dict)
    """How often items were shown to the person within the days of the pipeline's frequency cap."""
    seed: str = ""
    """Decides what exploration draws: the recommendation's id."""
    degraded: str | None = None
    """What already went wrong, such as FEATURES_UNAVAILABLE."""
    skip: frozenset[str] = frozenset()
    """Stages and sources to leave out, as an answer that is repeated left them out."""


@dataclass(frozen=True, slots=True)
class Recommended:
    """One item of the answer."""

    item_id: ItemId
    score: float
    """Comparable within one list only."""
    source: str
    """The source that speaks most for it."""
    reasons: tuple[str, ...] = ()
    propensity: float = 1.0
    """How probable it was that this item would come at this place."""
    rules: tuple[str, ...] = ()
    """The business rules and promotions that put or moved it."""


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule did to one answer."""

    rule: str
    items: int
    cost: float
    """Model score that the list lost by it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer."""

    items: tuple[Recommended, ...]
    degraded: str | None
    """Why the answer is worse than it should be, or None."""
    skipped: tuple[str, ...] = ()
    """Stages and sources that were left out because they were late or failed."""
    rules: tuple[RuleCount, ...] = ()
    """The business rules that held and changed something."""
    timings: tuple[tuple[str, float], ...] = ()
    """Stage and seconds."""
    trace: "Trace | None" = None
    """How it came about."""
