"""Search spaces: which settings of a model a search may try, one TOML per kind in config/models/KIND-search.toml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bespoke.errors import ConfigError
from bespoke.models.base import ModelConfig
from bespoke.models.registry import model_of_kind
from storage.settings import Settings
from storage.toml import read_toml, validated

SUFFIX = "-search"
SHIPPED = Path(__file__).parents[1] / "config"
"""The project's own config folder, for commands that run from elsewhere."""


class Choices(BaseModel):
    """A setting that is tried at these values."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    choices: Annotated[tuple[bool | int | float | str, ...], Field(min_length=1, strict=False)]

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna has it."""
        return CategoricalDistribution(self.choices)

    def suggest(self, name: str, trial: BaseTrial) -> Any:
        """Return the value that ``trial`` suggests."""
        return trial.suggest_categorical(name, self.choices)

    def ends(self) -> tuple[Any, ...]:
        """Return the values that a config must allow."""
        return self.choices


class Range(BaseModel):
    """A setting that is tried anywhere between two values, both included; whole numbers give whole numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a range on a logarithmic scale starts above 0, got {self.low}")
        return self

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna has it."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def suggest(self, name: str, trial: BaseTrial) -> Any:
        """Return the value that ``trial`` suggests."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def ends(self) -> tuple[Any, ...]:
        """Return the values that a config must allow."""
        return self.low, self.high


Space = Mapping[str, Choices | Range]


def space_path(kind: str, settings: Settings) -> Path:
    """Return the file of a kind's search space: the installation's own, or the one that the project ships."""
    name = Path("models") / f"{kind}{SUFFIX}.toml"
    own = settings.config_dir / name
    return own if own.is_file() else SHIPPED / name


def load_space(kind: str, path: Path) -> Space:
    """Return the settings that a search over this kind tries.

    Raises:
        ConfigError: the file is missing or no TOML, names a setting that the kind does not have, or leaves its bounds.
        NotFound: no such kind.
    """
    config_class = model_of_kind(kind).Config
    space = {name: _tried(name, entry, path) for name, entry in read_toml(path).items()}
    for name, tried in space.items():
        _require_allowed(config_class, name, tried, path)
    return space


def suggested(space: Space, trial: BaseTrial) -> dict[str, Any]:
    """Return a value of each setting, as ``trial`` suggests them; :func:`with_values` puts them into a config."""
    return {name: tried.suggest(name, trial) for name, tried in space.items()}


C = TypeVar("C", bound=ModelConfig)


def with_values(config: C, values: Mapping[str, Any]) -> C:
    """Return ``config`` with these settings; a dot leads into a table, as in ``interaction_weights.view``.

    Raises:
        ConfigError: a setting is unknown or out of bounds.
    """
    raw = config.model_dump(mode="python")
    for name, value in values.items():
        *tables, last = name.split(".")
        inside = raw
        for table in tables:
            inside = inside.setdefault(table, {})
        inside[last] = value
    return validated(type(config), raw, "settings")


def _tried(name: str, entry: Any, path: Path) -> Choices | Range:
    where = f"{path}: {name}"
    if isinstance(entry, dict) and "choices" in entry:
        return validated(Choices, entry, where)
    return validated(Range, entry, where)


def _require_allowed(config_class: type[ModelConfig], name: str, tried: Choices | Range, path: Path) -> None:
    for value in tried.ends():
        try:
            with_values(config_class(), {name: value})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
