"""Model settings: one TOML per kind in config/models/, checked against the model's own config."""

from pathlib import Path

import tomli_w

from bespoke.errors import ConfigError
from bespoke.models.base import ModelConfig
from bespoke.models.registry import MODELS, model_of_kind
from storage.durable import replacing
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


def configured_kinds(config_dir: Path) -> tuple[str, ...]:
    """Return the kinds of model that the folder has settings for.

    Raises:
        ConfigError: there are none.
    """
    stems = {path.stem for path in (config_dir / "models").glob("*.toml")}
    found = tuple(kind for kind in MODELS if kind in stems)
    if not found:
        raise ConfigError(f"{config_dir / 'models'}: no settings of any kind of model; there are {', '.join(MODELS)}")
    return found


def write_config(config: ModelConfig, path: Path) -> None:
    """Write settings as a file that :func:`load_config` reads."""
    with replacing(path) as temporary:
        temporary.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
