"""Experiments: which variant a person gets, from a salted hash of the unit's id; nothing has to be stored to be sticky.

The first 53 bits of SHA-256 over ``salt:unit_id`` in UTF-8, big-endian, divided by 2**53, are a point in [0, 1).
Variants own consecutive intervals of that line, as long as their shares.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from itertools import accumulate
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bespoke.errors import ConfigError, shown

FILE = "config/experiments.toml"
SHARE_TOLERANCE = 1e-6
_NAME = r"^[a-z][a-z0-9_-]*$"


class Unit(StrEnum):
    """What is assigned to a variant as a whole."""

    PERSON = "person"
    """The raw id of a person as it was sent."""


class Variant(BaseModel):
    """One arm of an experiment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, max_length=64, description="Name in exposures and reports.")
    share: float = Field(ge=0, le=1, description="Share of the units that get it, 0..1.")
    model: str = Field(min_length=1, max_length=200, description="Pointer to the model it serves, such as champion.")


class Experiment(BaseModel):
    """A split of units over variants. Changing salt or shares reassigns units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, max_length=64, description="Name in exposures and reports.")
    salt: str = Field(min_length=1, max_length=200, description="Makes this split independent of every other.")
    unit: Unit = Field(default=Unit.PERSON, description="What is assigned as a whole.")
    variants: tuple[Variant, ...] = Field(min_length=1, description="The arms; their shares sum to 1.")

    @model_validator(mode="after")
    def _check_variants(self) -> "Experiment":
        total = sum(variant.share for variant in self.variants)
        if abs(total - 1.0) > SHARE_TOLERANCE:
            raise ValueError(f"shares sum to {total:.2f}, expected 1.00")
        names = [variant.name for variant in self.variants]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"variant names repeat: {', '.join(repeated)}")
        return self


def assign(experiment: Experiment, unit_id: str) -> Variant:
    """Return the variant of a unit: always the same one while salt and shares stand."""
    at = point(experiment.salt, unit_id)
    for variant, end in zip(experiment.variants, accumulate(v.share for v in experiment.variants), strict=True):
        if at < end:
            return variant
    # Rounding may leave the shares a hair short of 1.
    return next(variant for variant in reversed(experiment.variants) if variant.share > 0)


def point(salt: str, unit_id: str) -> float:
    """Return where a unit falls on [0, 1).

    >>> round(point("hero-1", "household-1"), 6)
    0.071401
    """
    digest = hashlib.sha256(f"{salt}:{unit_id}".encode()).digest()
    # 53 bits fit a float exactly; more would round some points up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)


def load_experiments(toml_text: str) -> dict[str, Experiment]:
    """Read the experiments of a TOML file: one table per experiment, named after it.

    Raises:
        ConfigError: names the experiment, the value and the file to edit.
    """
    try:
        tables = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{FILE} is not TOML: {error}") from None
    experiments = {name: parse_experiment(name, table) for name, table in tables.items()}
    _check_salts(experiments)
    return experiments


def parse_experiment(name: str, table: Any) -> Experiment:
    """Read one experiment from plain values.

    Raises:
        ConfigError: as :func:`load_experiments` does.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"experiment {name!r}: got {shown(table)}, expected a table [{name}]; edit {FILE}")
    try:
        return Experiment.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ConfigError(f"experiment {name!r}: {_first_problem(error)}; edit {FILE}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: got {shown(problem['input'])}, {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _check_salts(experiments: Mapping[str, Experiment]) -> None:
    name_of: dict[str, str] = {}
    for name, experiment in experiments.items():
        other = name_of.setdefault(experiment.salt, name)
        if other != name:
            raise ConfigError(
                f"experiments {other!r} and {name!r} share the salt {experiment.salt!r}, so the same people would "
                f"meet in the same variants; give each its own in {FILE}"
            )
