"""Checks everything in config/, file by file and against one another, without starting anything."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.experiments import load_experiments
from bespoke.models.registry import model_of_kind
from ingestion.mapping import load_mapping
from training.configs import load_config


def validate_config(config_dir: Path) -> list[str]:
    """Return every problem found, each naming the file, the value and what is allowed; empty where all is well."""
    if not config_dir.is_dir():
        return [f"{config_dir}: no such folder; set BESPOKE_CONFIG_DIR or run from the project's folder"]
    problems: list[str] = []
    for path in sorted((config_dir / "models").glob("*.toml")):
        _collect(problems, partial(load_config, path.stem, path))
    for path in sorted((config_dir / "sources").glob("*.toml")):
        _collect(problems, partial(load_mapping, path))
    experiments = config_dir / "experiments.toml"
    if experiments.is_file():
        _collect(problems, partial(_check_experiments, experiments, config_dir))
    known = {"models", "sources", "experiments.toml"}
    problems += [
        f"{path}: nothing reads this; config/ holds {', '.join(sorted(known))}"
        for path in sorted(config_dir.iterdir())
        if path.name not in known and not path.name.startswith(".")
    ]
    return problems


def _check_experiments(path: Path, config_dir: Path) -> None:
    for experiment in load_experiments(path.read_text()).values():
        for variant in experiment.variants:
            name, at, _ = variant.model.partition("@")
            if at and not (config_dir / "models" / f"{name}.toml").is_file():
                model_of_kind(name)


def _collect(problems: list[str], check: Callable[[], object]) -> None:
    try:
        check()
    except BespokeError as error:
        problems.append(str(error))
