"""Pipelines: how candidates become a list, as config/pipelines.toml declares it."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from bespoke.errors import ConfigError, shown
from bespoke.expressions import parse_expression

FILE = "config/pipelines.toml"
DEFAULT = "default"
"""The pipeline of everybody for whom no experiment names another."""
SEGMENT_POINTERS = "popular-"
"""Before a segment's name: the pointer to a model of what its members take."""
_NAME = r"^[a-z][a-z0-9_-]*$"


class SourceKind(StrEnum):
    """Where candidates can come from."""

    MODEL = "model"
    """The model that the experiment's variant names, or the champion."""
    POINTER = "pointer"
    """Another model: the version that a pointer names. While it names none the source is empty."""
    POPULAR = "popular"
    """What everybody takes now: the model that the pointer ``popular`` names."""
    POPULAR_IN_CATEGORY = "popular_in_category"
    """What everybody takes in the categories of the person's latest lines."""
    POPULAR_IN_SEGMENT = "popular_in_segment"
    """What the members of the person's segments take: the models that the pointers ``popular-SEGMENT`` name."""


class Blend(StrEnum):
    """How candidates of several sources become one order."""

    MODEL = "model"
    """As the variant's model ranks them; what only other sources name comes after."""
    FUSION = "fusion"
    """By weighted reciprocal ranks over all sources."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSettings(_Form):
    """One source of candidates."""

    kind: SourceKind = Field(default=SourceKind.POINTER, description="Where they come from.")
    pointer: str | None = Field(default=None, pattern=_NAME, max_length=64, description="Of a source of kind pointer.")
    budget: int = Field(default=100, ge=1, le=1_000, description="How many candidates at most.")
    weight: float = Field(default=1.0, gt=0, le=100, description="What its ranks count in a fusion.")
    fill: bool = Field(default=False, description="Asked only where the sources before it leave the list too short.")

    @model_validator(mode="after")
    def _names_its_pointer(self) -> Self:
        if (self.pointer is not None) != (self.kind is SourceKind.POINTER):
            raise ValueError(f"a source of kind {self.kind} has {'a' if self.pointer is None else 'no'} pointer")
        return self

    @property
    def name(self) -> str:
        """How answers call it."""
        return self.pointer or self.kind.value


class FrequencyCap(_Form):
    """An item is shown to a person so often and no more."""

    times: int = Field(ge=1, le=1_000, description="How often at most.")
    days: int = Field(ge=1, le=30, description="Within so many days.")


class Diversity(_Form):
    """How alike the items of one list may be."""

    mmr: float = Field(
        default=0.0, ge=0, le=1, description="What being like an item above it costs, against the score; 0 for nothing."
    )
    pool: int = Field(default=100, ge=1, le=500, description="How many of the best take part.")
    per_category: int | None = Field(default=None, ge=1, le=100, description="So many of one narrowest category.")
    per_brand: int | None = Field(default=None, ge=1, le=100, description="So many of one brand.")

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.mmr > 0 or self.per_category is not None or self.per_brand is not None


class Exploration(_Form):
    """Places that are given to chance, so that items can show what they are worth."""

    share: float = Field(default=0.0, ge=0, le=0.5, description="Probability that a place is drawn, 0..0.5.")
    pool: int = Field(default=50, ge=1, le=500, description="From so many candidates below the list.")


class Deadlines(_Form):
    """When a stage has had its time: what of it is left to do is skipped, and the answer says so.

    Filters and rules have none: an answer without them could show what must not be shown.
    """

    candidates_ms: float = Field(default=25.0, gt=0, le=5_000, description="No source is begun later than this.")
    diversify_ms: float = Field(default=5.0, gt=0, le=5_000, description="Diversification ends here.")


def _checked_expression(text: str | None) -> str | None:
    try:
        named = frozenset() if text is None else frozenset(parse_expression(text).parameters)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    if named:
        raise ValueError(f"parameters {', '.join(sorted(named))} in a pipeline's filter: nobody gives them values")
    return text


class Pipeline(_Form):
    """One way from candidates to a list."""

    name: str = Field(default=DEFAULT, pattern=_NAME, max_length=64, description="Its name in experiments.")
    blend: Blend = Field(default=Blend.MODEL, description="How candidates become one order.")
    sources: tuple[SourceSettings, ...] = Field(
        default=(SourceSettings(kind=SourceKind.MODEL, budget=200),),
        min_length=1,
        max_length=20,
        description="Where candidates come from.",
    )
    filter: Annotated[str | None, AfterValidator(_checked_expression)] = Field(
        default=None, description="Only items for which this expression holds."
    )
    bought_within_days: float | None = Field(
        default=None,
        ge=0,
        le=3_650,
        description="Leave out what was bought within so many days; the catalog's own number wins where it has one.",
    )
    frequency_cap: FrequencyCap | None = Field(default=None, description="How often an item is shown to a person.")
    diversity: Diversity = Field(default=Diversity(), description="How alike the items may be.")
    exploration: Exploration = Field(default=Exploration(), description="What chance may put into the list.")
    deadlines: Deadlines = Field(default=Deadlines(), description="When a stage has had its time.")

    @model_validator(mode="after")
    def _sources_differ(self) -> Self:
        names = [source.name for source in self.sources]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sources repeat: {', '.join(repeated)}")
        return self

    @property
    def pointers(self) -> tuple[str, ...]:
        """The pointers that its sources name."""
        return tuple(source.pointer for source in self.sources if source.pointer is not None)

    @property
    def by_segment(self) -> bool:
        """Whether a source asks what is popular in segments."""
        return any(source.kind is SourceKind.POPULAR_IN_SEGMENT for source in self.sources)


def load_pipelines(toml_text: str) -> dict[str, Pipeline]:
    """Read the pipelines of a TOML file, one table each; ``default`` is there even where the file has none.

    Raises:
        ConfigError: names the pipeline, the value and the file to edit.
    """
    try:
        tables = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{FILE} is not TOML: {error}") from None
    return {DEFAULT: Pipeline()} | {name: parse_pipeline(name, table) for name, table in tables.items()}


def parse_pipeline(name: str, table: Any) -> Pipeline:
    """Read one pipeline from plain values.

    Raises:
        ConfigError: as :func:`load_pipelines` does.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"pipeline {name!r}: got {shown(table)}, expected a table [{name}]; edit {FILE}")
    try:
        return Pipeline.model_validate({**table, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the table"
        got = f", got {shown(first['input'])}" if first["type"] != "missing" else ""
        raise ConfigError(f"pipeline {name!r}: {place}: {first['msg']}{got}; edit {FILE}") from None
