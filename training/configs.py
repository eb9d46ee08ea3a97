"""Model settings: one TOML per kind in config/models/, checked against the model's own config."""

from pathlib import Path

from bespoke.models.base import ModelConfig
from bespoke.models.registry import model_of_kind
from storage.toml import read_toml, validated


def load_config(kind: str, path: Path, *, required: bool = False) -> ModelConfig:
    """Return the settings of a kind of model.

    Args:
        kind: the kind of model.
        path: its TOML file.
        required: whether the file must exist; otherwise a missing one means the defaults.

    Raises:
        NotFound: no such kind; names those there are.
        ConfigError: the file is missing though it must exist or is no TOML, or an entry is unknown or out of bounds.
    """
    config_class = model_of_kind(kind).Config
    if not required and not path.exists():
        return config_class()
    return validated(config_class, read_toml(path), path)
