"""The JSON forms of the HTTP interface."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)
from pydantic.alias_generators import to_camel

from bespoke.events import ANONYMOUS
from bespoke.parsing import MAX_ID_CHARS


class Form(BaseModel):
    """A JSON object in camel case; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def _text(value: Any) -> Any:
    """Take whole numbers for ids too, as events do."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _printable(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("an id is a non-empty printable string")
    return value


Id = Annotated[
    str,
    BeforeValidator(_text),
    StringConstraints(min_length=1, max_length=MAX_ID_CHARS),
    AfterValidator(_printable),
]

RawId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=len(ANONYMOUS) + MAX_ID_CHARS),
    AfterValidator(_printable),
]
"""A user id, or ``anonymous:`` and an anonymous id."""


class RejectedEvent(Form):
    """One event that was refused, and why."""

    index: int = Field(description="Its place in the batch, from 0.")
    message_id: str | None
    field: str
    value: str
    allowed: str


class CollectAccepted(Form):
    """The valid events of the request are stored."""

    success: bool = True
    accepted: int
    token: str = Field(description="For `after` of a recommendation request.")
    rejected: tuple[RejectedEvent, ...] = ()


class ErrorBody(Form):
    """Nothing was done. Further members say more, by code."""

    model_config = ConfigDict(extra="allow")

    success: bool = False
    code: str = Field(description="A stable word for programs.")
    message: str = Field(description="For people.")


class CollectError(ErrorBody):
    """Nothing was stored."""

    rejected: tuple[RejectedEvent, ...] = ()


class ModelInfo(Form):
    """One pointer: what it should serve and what it serves."""

    pointer: str
    wanted: str | None = Field(description="`name@version` in the control store.")
    active: str | None = Field(description="`name@version` that answers requests.")
    kind: str | None = Field(default=None, description="The model family of the active version.")
    error: str | None = Field(default=None, description="Why the wanted version is not active.")


class ModelsResponse(Form):
    """Every pointer that this process follows."""

    models: tuple[ModelInfo, ...]
    experiments: tuple[str, ...] = Field(description="Names of the experiments in force.")
    lacks: tuple[str, ...] = Field(default=(), description="What is missing: models, experiments that wait.")


class ProfileResponse(Form):
    """What is known of a person, as of the request."""

    user_id: str = Field(description="The raw id that was asked for.")
    as_of: datetime | None = Field(description="When the newest event that is in here was received.")
    features: dict[str, float | str | None] = Field(
        description="By name, in the declared order; null where there is nothing to derive a value from."
    )
    traits: dict[str, Any] = Field(description="What was said of the person, the latest value of each.")
    segments: tuple[str, ...] = Field(description="The segments that the person is in.")
    version: int = Field(description="Grows with every event that is in here.")
    reflects: bool | None = Field(description="Whether this reflects the events of `after`; null without it.")
    stale: bool = Field(description="Whether nothing was heard of the person for too long; features are null then.")
    degraded: str | None = Field(description="Why this is less than it could be; null where it is not.")


class SegmentInfo(Form):
    """One segment, in short."""

    name: str
    meaning: str
    size: int | None = Field(description="How many people were in it when last counted; null before the first count.")
    size_at: datetime | None = Field(description="The beginning of the ten minutes of that count.")


class SegmentsResponse(Form):
    """Every segment that is defined."""

    segments: tuple[SegmentInfo, ...]
    problem: str | None = Field(description="Why the file cannot be used; the definitions before it stay in force.")


class SegmentSize(Form):
    """How many people were in a segment."""

    at: datetime = Field(description="The beginning of ten minutes.")
    members: int


class SegmentReads(Form):
    """What a segment's conditions look at, by the segments that it refers to as well."""

    features: tuple[str, ...]
    scores: tuple[str, ...]
    traits: tuple[str, ...]
    segments: tuple[str, ...] = Field(description="The segments that it refers to itself.")


class SegmentResponse(SegmentInfo):
    """One segment."""

    fingerprint: str = Field(description="Changes with the definition, and with those that it refers to.")
    sizes: tuple[SegmentSize, ...] = Field(description="Every ten minutes, oldest first.")
    reads: SegmentReads


class ServedVersion(Form):
    """One pointer: which version it should serve and which it serves."""

    pointer: str
    wanted: str | None
    active: str | None


class Readiness(Form):
    """Whether the process can answer, and what it lacks."""

    ready: bool
    models: tuple[ServedVersion, ...] = ()
    lacks: tuple[str, ...] = Field(default=(), description="What is missing or degraded, in words.")
