"""The files that say how lists are made, config/pipelines.toml and config/rules.toml, followed while serving."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.recommend import DEFAULT, Pipeline, load_pipelines
from bespoke.rules import Rule, load_rules
from storage.toml import read_text

logger = logging.getLogger(__name__)

PIPELINES = "pipelines.toml"
RULES = "rules.toml"


@dataclass(frozen=True, slots=True)
class Recipes:
    """How lists are made: what both files say."""

    pipelines: Mapping[str, Pipeline] = field(default_factory=lambda: {DEFAULT: Pipeline()})
    rules: tuple[Rule, ...] = ()
    rules_text: str = ""


class RecipeBook:
    """Reads both files again when one of them has changed. A file that is wrong leaves what was in force before."""

    def __init__(self, config_dir: Path) -> None:
        self._config_dir = config_dir
        self._stamp: object = None
        self.recipes = Recipes()
        self.problem: str | None = None
        """Why the files cannot be used, in words that name paths; None where all is well."""
        self.poll()

    def poll(self) -> bool:
        """Look once; return whether there is something new."""
        stamp = tuple(_stamp(self._config_dir / name) for name in (PIPELINES, RULES))
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            found = read_recipes(self._config_dir)
        except BespokeError as error:
            logger.error("pipelines and rules stay as they were: %s", error)
            self.problem = str(error)
            return False
        self.problem = None
        changed = found != self.recipes
        self.recipes = found
        return changed


def read_recipes(config_dir: Path) -> Recipes:
    """Return what the files of a folder say; the defaults where there are none.

    Raises:
        ConfigError: a file is wrong; names the value and the way out.
    """
    pipelines, rules = (_text(config_dir / name) for name in (PIPELINES, RULES))
    return Recipes(load_pipelines(pipelines), load_rules(rules), rules)


def _text(path: Path) -> str:
    return read_text(path) if path.exists() else ""


def _stamp(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return 0, 0
    return about.st_mtime_ns, about.st_size
