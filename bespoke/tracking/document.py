"""The tracking plan as people write it: ``config/tracking.toml``."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Action(StrEnum):
    """What becomes of an event that breaks the plan; the strongest of an event's violations decides."""

    PASS = "pass"
    """Kept as it is; the violation is counted."""
    FLAG = "flag"
    """Kept; the event's context says what is wrong with it."""
    BLOCK = "block"
    """Refused with the reason, and kept as a failed event."""


class Rule(StrEnum):
    """What can be broken."""

    UNPLANNED_EVENT = "unplanned_event"
    UNPLANNED_PROPERTY = "unplanned_property"
    MISSING = "missing"
    TYPE = "type"
    ALLOWED = "allowed"
    BOUNDS = "bounds"


class ValueType(StrEnum):
    """What a property may be. A boolean is no number; a time is ISO 8601 text."""

    STRING = "string"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"
    TIME = "time"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PropertyPlan(_Part):
    """What is expected of one property."""

    type: ValueType | None = Field(default=None, description="What it must be; anything if absent.")
    required: bool = Field(default=False, description="Whether an event without it, or with null, breaks the plan.")
    allowed: tuple[str | int | float | bool, ...] | None = Field(default=None, min_length=1, description="Its values.")
    min: float | None = Field(default=None, allow_inf_nan=False, description="Smallest number.")
    max: float | None = Field(default=None, allow_inf_nan=False, description="Largest number.")

    @model_validator(mode="after")
    def _check(self) -> "PropertyPlan":
        if (self.min is not None or self.max is not None) and self.type not in (ValueType.NUMBER, ValueType.INTEGER):
            raise ValueError(f"min and max need type number or integer, got {self.type or 'none'}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class _Actions(_Part):
    on_violation: Action | None = None
    unplanned_properties: Action | None = None


class EventPlan(_Actions):
    """What is expected of the track, page or screen events of one name."""

    properties: dict[str, PropertyPlan] = Field(default_factory=dict)
    product: dict[str, PropertyPlan] = Field(
        default_factory=dict,
        description="Properties of each row of `products`; of the event where it has no such list.",
    )


class TypePlan(_Actions):
    """What is expected of the traits of identify or group messages."""

    traits: dict[str, PropertyPlan] = Field(default_factory=dict)


class Document(_Part):
    """The whole file."""

    on_violation: Action = Field(default=Action.PASS, description="A planned event that is not as planned.")
    unplanned_events: Action = Field(default=Action.PASS, description="An event that no entry names.")
    unplanned_properties: Action = Field(default=Action.PASS, description="A property that its entry does not name.")
    events: dict[str, EventPlan] = Field(default_factory=dict)
    identify: TypePlan | None = None
    group: TypePlan | None = None
