"""Model settings: one TOML per kind in config/models/, checked against the model's own config."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bespoke.errors import ConfigError
from bespoke.models.base import Model, ModelConfig
from bespoke.models.bundle import MODELS


def model_class(kind: str) -> type[Model]:
    """Return the model of that kind.

    Raises:
        ConfigError: there is none.
    """
    if kind not in MODELS:
        raise ConfigError(f"no model {kind!r}; there are: {', '.join(sorted(MODELS))}")
    return MODELS[kind]


def load_config(kind: str, path: Path) -> ModelConfig:
    """Return the settings of a kind of model; a missing file means its defaults.

    Raises:
        ConfigError: the file is no TOML, or an entry is unknown or out of bounds.
    """
    config_class: Any = model_class(kind).Config
    if not path.is_file():
        return config_class()  # type: ignore[no-any-return]
    try:
        return config_class.model_validate(tomllib.loads(path.read_text()))  # type: ignore[no-any-return]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from None
