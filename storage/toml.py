"""Files that people edit: read as TOML and checked against a model, with errors that name the file and the entry."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bespoke.errors import ConfigError, shown

M = TypeVar("M", bound=BaseModel)


def read_text(path: Path) -> str:
    """Return what a text file holds.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        # Some editors begin a file with a byte order mark, which is no TOML.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"no file at {path}; there are: {_near(path.parent)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; name a file, there are: {_near(path)}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}; save it as UTF-8") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the entries of a TOML file.

    Raises:
        ConfigError: the file cannot be read as text, or is no TOML; says where.
    """
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def validated(model_class: type[M], raw: Any, where: object) -> M:
    """Return ``raw`` as a ``model_class``.

    Args:
        model_class: what the entries must be.
        raw: the entries.
        where: what an error names, such as the file's path.

    Raises:
        ConfigError: an entry is unknown, missing or out of bounds; names the first one, what is wrong and its value.
    """
    try:
        return model_class.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigError(f"{where}: {entry}: {first['msg']}, got {shown(first['input'])}") from None


def _near(folder: Path) -> str:
    return ", ".join(sorted(str(path) for path in folder.glob("*.toml"))) or f"no TOML files in {folder}"
