"""Reading config/experiments.toml: experiments by name, and the tables [holdout] and [guard]."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bespoke.errors import ConfigError, shown
from bespoke.experiments.canary import GuardSettings
from bespoke.experiments.declaration import HOLDOUT, Experiment, Holdout, Start
from bespoke.experiments.layers import check_layers

FILE = "config/experiments.toml"
GUARD = "guard"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a file declares."""

    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    holdout: Holdout | None = None
    guard: GuardSettings = field(default_factory=GuardSettings)


def load_declared(toml_text: str) -> Declared:
    """Read a file: one table per experiment, named after it, and the tables ``[holdout]`` and ``[guard]``.

    Raises:
        ConfigError: names the experiment, the value and the file to edit.
    """
    try:
        tables = tomllib.loads(toml_text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{FILE} is not TOML: {error}") from None
    holdout, guard = tables.pop(HOLDOUT, None), tables.pop(GUARD, {})
    experiments = {name: parse_experiment(name, table) for name, table in tables.items()}
    declared = Declared(
        experiments,
        None if holdout is None else _read(Holdout, holdout, "[holdout]"),
        _read(GuardSettings, guard, "[guard]"),
    )
    _check_salts(declared)
    check_layers([one for one in experiments.values() if one.start is Start.WITH_UP])
    return declared


def load_experiments(toml_text: str) -> dict[str, Experiment]:
    """Read the experiments of a file by name; raises as :func:`load_declared` does."""
    return dict(load_declared(toml_text).experiments)


def parse_experiment(name: str, table: Any) -> Experiment:
    """Read one experiment from plain values.

    Raises:
        ConfigError: as :func:`load_declared` does.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"experiment {name!r}: got {shown(table)}, expected a table [{name}]; edit {FILE}")
    return _read(Experiment, {**table, "name": name}, f"experiment {name!r}")


def _read(model_class: type[M], table: Any, what: str) -> M:
    try:
        return model_class.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{what}: {_first_problem(error)}; edit {FILE}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "value_error":
        return f"{place}: {problem['ctx']['error']}" if place else str(problem["ctx"]["error"])
    return f"{place}: got {shown(problem['input'])}, {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _check_salts(declared: Declared) -> None:
    salts = {name: experiment.salt for name, experiment in declared.experiments.items()}
    if declared.holdout is not None:
        salts[HOLDOUT] = declared.holdout.salt
    name_of: dict[str, str] = {}
    for name, salt in salts.items():
        other = name_of.setdefault(salt, name)
        if other != name:
            raise ConfigError(
                f"experiments {other!r} and {name!r} share the salt {salt!r}, so the same people would "
                f"meet in the same variants; give each its own in {FILE}"
            )
