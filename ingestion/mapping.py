"""Mappings: how the columns of somebody's files become events, catalog items and traits."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bespoke.events import EventType
from storage.toml import read_toml, validated


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Computed(_Part):
    """A value that is not simply a column of the same file."""

    column: str = Field(description="The column that holds the value.")
    divide_by: str | None = Field(default=None, description="Column to divide by; nothing where it is zero.")
    file: str | None = Field(default=None, description="Take the column from this other file, joined on `key`.")
    key: str | None = Field(default=None, description="The column that both files share; needed with `file`.")
    values: dict[str, str] | None = Field(default=None, description="What each value of the column stands for.")

    @model_validator(mode="after")
    def _joined_by_key(self) -> "Computed":
        if (self.file is None) != (self.key is None):
            raise ValueError("`file` and `key` go together")
        return self


Source = Annotated[str | Computed, Field(description="A column's name, or a computed value.")]


class EventsPart(_Part):
    """Rows that become messages."""

    file: str | None = Field(default=None, description="File name inside the folder that is ingested.")
    type: EventType = EventType.TRACK
    event: str | Computed = Field(description="The event's name, or the column (with `values`) that tells it.")
    user_id: Source | None = None
    anonymous_id: Source | None = None
    timestamp: Source
    time_unit: Literal["iso", "s", "ms"] = Field(default="iso", description="How numbers in `timestamp` count.")
    message_id: str | None = Field(
        default=None,
        description="Template over columns, such as `basket-{basket_id}`; by default it follows from what a row says.",
    )
    group_by: str | None = Field(default=None, description="Rows that share this column's value are one message.")
    properties: dict[str, Source] = Field(default_factory=dict)
    product: dict[str, Source] = Field(default_factory=dict, description="product_id, quantity, price, category.")

    @field_validator("message_id")
    @classmethod
    def _readable_template(cls, template: str | None) -> str | None:
        if template is not None and not any(column for _, column in template_parts(template)):
            raise ValueError("it names no column, so all messages would be one; write {column}")
        return template

    @model_validator(mode="after")
    def _names_somebody(self) -> "EventsPart":
        if self.user_id is None and self.anonymous_id is None:
            raise ValueError("`user_id` or `anonymous_id` must name a column")
        return self

    def sources(self) -> dict[str, Source]:
        """Return where each value of a message comes from, by the name that a message gives it."""
        named: dict[str, Source | None] = {
            "user": self.user_id,
            "anonymous": self.anonymous_id,
            "event": self.event if isinstance(self.event, Computed) else None,
            **{f"property.{key}": source for key, source in self.properties.items()},
            **{f"product.{key}": source for key, source in self.product.items()},
        }
        return {key: source for key, source in named.items() if source is not None}


class CatalogPart(_Part):
    """Rows that describe items."""

    file: str | None = None
    item_id: str
    name: str | None = None
    category: tuple[str, ...] = Field(default=(), description="Columns from the broadest to the narrowest.")
    brand: str | None = None
    price: str | None = None
    rebuy_after_days: str | None = Field(
        default=None, description="Column: not recommended again to whoever bought it within so many days."
    )


class TraitsPart(_Part):
    """Rows that describe people: each becomes an `identify`."""

    file: str | None = None
    user_id: str
    columns: tuple[str, ...] = Field(min_length=1, description="Columns that become traits of the same name.")


class Mapping(_Part):
    """One source of files."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    replay: bool = Field(
        default=False, description="Take the events as received when they happened, rather than now: for replays."
    )
    events: EventsPart | None = None
    catalog: CatalogPart | None = None
    traits: TraitsPart | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Mapping":
        if self.events is None and self.catalog is None and self.traits is None:
            raise ValueError("at least one of [events], [catalog], [traits] is needed")
        return self


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """Return the pieces of a template: a literal text, and the column whose value follows it, if any.

    >>> template_parts("basket-{basket_id}")
    [('basket-', 'basket_id')]

    Raises:
        ValueError: a brace without its other half, or more than a column's name between braces.
    """
    parts = list(Formatter().parse(template))
    for _, column, form, conversion in parts:
        if column == "" or form or conversion:
            raise ValueError(f"{template!r}: only a column's name may stand between braces, such as {{basket_id}}")
    return [(literal, column) for literal, column, _, _ in parts]


def load_mapping(path: Path) -> Mapping:
    """Read a mapping.

    Raises:
        ConfigError: the file is missing, no TOML, or not a mapping; says which entry and why.
    """
    return validated(Mapping, read_toml(path), path)
