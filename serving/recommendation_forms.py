"""The JSON forms of recommendations: what may be asked, and what is answered."""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, StrictBool, StrictInt, StringConstraints, model_validator

from bespoke.clock import to_ms
from bespoke.errors import ConfigError
from bespoke.events import ANONYMOUS, InteractionType, ItemId
from bespoke.expressions import Expression, parse_expression
from bespoke.profiles import Recent
from bespoke.recommend import Filter, Promotion
from serving.schemas import Form, Id

MAX_PAGE_CHARS = 24_000
EXPRESSIONS_KEPT = 1_024

ContextKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(strict=True, max_length=200)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Plain = StrictBool | StrictInt | Number | Text
Values = dict[ContextKey, Plain | Annotated[list[Plain], Field(max_length=1_000)]]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]
FilterText = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]

expression_of = lru_cache(EXPRESSIONS_KEPT)(parse_expression)


class PromotionForm(Form):
    """A share of the places for items of a filter."""

    name: Name = Field(description="Named with each item that it puts into the list.")
    filter: FilterText = Field(description="Which items, such as `brand == 'ACME'`.")
    filter_values: Values = Field(default_factory=dict, max_length=50, description="Values of the filter's parameters.")
    share: float = Field(gt=0, le=1, description="Share of the places, rounded up to whole ones.")

    def to_promotion(self) -> Promotion:
        """Return what the engine takes."""
        return Promotion(self.name, to_filter(self.filter, self.filter_values), self.share)


class AskedList(Form):
    """What every list can be asked with."""

    num_results: int = Field(default=10, ge=1, le=100, description="How many items at most.")
    filter: FilterText | None = Field(
        default=None, description="Only items for which this holds, such as `category == $c and price < 5`."
    )
    filter_values: Values = Field(default_factory=dict, max_length=50, description="Values of the filter's parameters.")
    exclude: tuple[Id, ...] = Field(default=(), max_length=1_000, description="Items that must not come back.")
    promotions: tuple[PromotionForm, ...] = Field(
        default=(), max_length=5, description="Places that are kept for items of a filter."
    )
    context: dict[ContextKey, Plain] = Field(
        default_factory=dict,
        max_length=20,
        description="What else is known of the moment, such as `device`. Rules may ask for it, and it is kept with the "
        "`Recommendation Served` event.",
    )
    surface: str | None = Field(default=None, max_length=100, description="Where the list is shown, such as `home`.")
    channel: str | None = Field(default=None, max_length=100, description="How it gets there, such as `email`.")
    page: str | None = Field(
        default=None,
        max_length=MAX_PAGE_CHARS,
        description="`nextPage` of the answer before: nothing of it comes again.",
    )

    def to_promotions(self) -> tuple[Promotion, ...]:
        """Return what the engine takes."""
        return tuple(one.to_promotion() for one in self.promotions)


class AskedForPerson(AskedList):
    """What a list for somebody can be asked with."""

    user_id: Id | None = Field(default=None, description="The person, where known by an id of your own.")
    anonymous_id: Id | None = Field(default=None, description="The person, where known by a device or session only.")
    exclude_seen: bool = Field(default=False, description="Leave out what the person did anything with lately.")
    after: str | None = Field(
        default=None, max_length=2_000, description="Token of a /collect answer whose events the list has to reflect."
    )
    variants: dict[Name, Name] = Field(
        default_factory=dict,
        max_length=10,
        description="For testers: the variant to get, by experiment. The key needs scope `experiments` besides.",
    )

    @model_validator(mode="after")
    def _is_no_raw_id(self) -> Self:
        if self.user_id is not None and self.user_id.startswith(ANONYMOUS):
            raise ValueError(f"userId may not start with {ANONYMOUS!r}")
        return self


class _NamesAPerson(AskedForPerson):
    @model_validator(mode="after")
    def _names_a_person(self) -> Self:
        if self.user_id is None and self.anonymous_id is None:
            raise ValueError("userId or anonymousId is required")
        return self


class RecommendationRequest(_NamesAPerson):
    """Items for a person."""

    item_id: Id | None = Field(
        default=None, description="The item that the list stands beside; it counts as viewed now and is left out."
    )


class RankRequest(_NamesAPerson):
    """Your own items, in the best order for a person."""

    items: tuple[Id, ...] = Field(min_length=1, max_length=1_000, description="What to put in order.")
    num_results: int = Field(default=100, ge=1, le=1_000, description="How many items at most.")


class SimilarRequest(AskedForPerson):
    """Items like one item. Naming a person keeps away what that person should not get, and splits the traffic."""

    item_id: Id = Field(description="Like which item.")


class TrendingRequest(AskedList):
    """What is popular now."""


class SessionLine(Form):
    """One thing that was done in a session."""

    item_id: Id = Field(description="With which item.")
    interaction: InteractionType = Field(default=InteractionType.VIEW, description="What was done.")
    timestamp: AwareDatetime | None = Field(default=None, description="When; now, in the order given, if absent.")


class SessionRequest(AskedForPerson):
    """Items for what a session did, told in the request. Where a person is named, what is known of it counts too."""

    session: tuple[SessionLine, ...] = Field(min_length=1, max_length=200, description="Oldest first.")

    def to_lines(self, at: datetime) -> tuple[Recent, ...]:
        """Return the session as lines of a profile, oldest first."""
        at_ms, count = to_ms(at), len(self.session)
        lines = [
            # One millisecond apart, so that their order is told by their times too.
            Recent(
                at_ms - count + number if line.timestamp is None else min(to_ms(line.timestamp), at_ms),
                ItemId(line.item_id),
                line.interaction.value,
                1.0,
            )
            for number, line in enumerate(self.session)
        ]
        return tuple(sorted(lines, key=lambda line: line.at_ms))


class RecommendedItem(Form):
    """One item of a list."""

    item_id: str
    score: float = Field(description="Comparable within one list only.")
    source: str = Field(description="What put the item there.")
    reasons: tuple[str, ...] = Field(description="Why, in words for people.")
    rules: tuple[str, ...] = Field(description="Business rules and promotions that put or moved it.")
    name: str | None = None


class Assigned(Form):
    """One experiment that the person takes part in."""

    experiment: str
    variant: str


class RecommendationResponse(Form):
    """The list, and how it came about."""

    recommendation_id: str = Field(description="Send it as `recommendation_id` with events that follow from the list.")
    items: tuple[RecommendedItem, ...]
    experiment: str | None = Field(description="The experiment that chose the model or the pipeline.")
    variant: str | None
    assignments: tuple[Assigned, ...] = Field(description="Every experiment that the person takes part in.")
    model_version: str | None = Field(description="`name@version` of the model that answered.")
    degraded: str | None = Field(description="Why the list is less personal than it could be; null where it is not.")
    skipped: tuple[str, ...] = Field(
        description="Stages and sources that were left out because they were late or failed."
    )
    reflects: bool | None = Field(description="Whether the list reflects the events of `after`; null without it.")
    next_page: str | None = Field(description="For `page` of the next request; null where nothing is left.")


def to_filter(text: str, values: Values) -> Filter:
    """Return a filter as the engine takes it.

    Raises:
        ExpressionError: the text is no expression.
        ConfigError: a parameter has no value.
    """
    expression: Expression = expression_of(text)
    missing = sorted(expression.parameters - values.keys())
    if missing:
        raise ConfigError(f"filter {text!r}: no value for ${missing[0]}; give it in filterValues")
    return Filter(expression, values)
