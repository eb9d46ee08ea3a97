"""Reading config/metrics.toml: metrics by name, and what they count of what happened."""

import tomllib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bespoke.clock import duration_ms
from bespoke.errors import ConfigError, shown
from bespoke.statistics.metric import Metric

FILE = "config/metrics.toml"
VALUE = r"^(count|quantity|revenue|property:[\w.-]{1,100})$"


class Counted(BaseModel):
    """What is summed up of a unit's events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: str = Field(
        min_length=1,
        max_length=200,
        description="An event's name such as 'Order Completed', or an interaction such as 'purchase'.",
    )
    value: str = Field(
        default="count",
        pattern=VALUE,
        description="count: events; quantity and revenue: of their lines; property:NAME: a number that they carry.",
    )
    joined: Literal["person", "recommendation"] = Field(
        default="person",
        description="recommendation: only events that name a recommendation which the unit was served.",
    )


class DeclaredMetric(Metric, Counted):
    """A metric, and what it counts."""

    denominator: Counted | None = Field(default=None, description="What a ratio is taken of.")
    window: str = Field(default="7 days", description="How long after a unit's first exposure events count.")

    @field_validator("window")
    @classmethod
    def _check_window(cls, window: str) -> str:
        duration_ms(window)
        return window

    @model_validator(mode="after")
    def _check_denominator(self) -> "DeclaredMetric":
        if (self.denominator is not None) != (self.kind == "ratio"):
            raise ValueError(f"metric {self.name!r}: a denominator belongs to kind 'ratio', and to it alone")
        return self

    @property
    def window_ms(self) -> int:
        """How long events count, in milliseconds."""
        return duration_ms(self.window)

    @property
    def counted(self) -> Counted:
        """What is summed up."""
        return Counted(event=self.event, value=self.value, joined=self.joined)


def load_metrics(toml_text: str, *, where: str = FILE) -> dict[str, DeclaredMetric]:
    """Read a file: one table per metric, named after it; the first that is no guardrail is what decides.

    Raises:
        ConfigError: names the metric, the value and the file to edit.
    """
    try:
        tables = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from None
    return {name: _metric(name, table, where) for name, table in tables.items()}


def _metric(name: str, table: Any, where: str) -> DeclaredMetric:
    if not isinstance(table, dict) or "name" in table:
        raise ConfigError(f"{where}: {name}: got {shown(table)}, expected a table of a metric's fields without 'name'")
    try:
        return DeclaredMetric.model_validate({**table, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the metric"
        raise ConfigError(f"{where}: {name}: {field}: {first['msg']}; got {shown(first['input'])}") from None
