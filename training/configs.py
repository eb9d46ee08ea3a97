"""Model settings: one TOML per kind in config/models/, checked against the model's own config."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from bespoke.errors import ConfigError
from bespoke.models.base import ModelConfig
from bespoke.models.registry import model_of_kind


def load_config(kind: str, path: Path) -> ModelConfig:
    """Return the settings of a kind of model; a missing file means its defaults.

    Raises:
        NotFound: no such kind; names those there are.
        ConfigError: the file is no TOML, or an entry is unknown or out of bounds.
    """
    config_class = model_of_kind(kind).Config
    if not path.is_file():
        return config_class()
    try:
        return config_class.model_validate(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}") from None
