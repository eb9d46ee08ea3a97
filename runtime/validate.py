"""Checks everything in config/, file by file and against one another, without starting anything."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bespoke.errors import BespokeError
from bespoke.experiments import load_experiments
from bespoke.models.registry import MODELS, model_of_kind
from ingestion.mapping import load_mapping
from storage.toml import read_text
from training.configs import load_config
from training.propensity import load_score, score_paths
from training.search_space import SUFFIX, load_space

KNOWN = ("experiments.toml", "models", "scores", "sources")


def validate_config(config_dir: Path) -> list[str]:
    """Return every problem found, each naming the file, the value and what is allowed; empty where all is well."""
    if not config_dir.is_dir():
        return _missing(config_dir)
    checks: list[Callable[[], object]] = [
        partial(_check_model, path) for path in sorted((config_dir / "models").glob("*.toml"))
    ]
    checks += [partial(load_score, path) for path in score_paths(config_dir)]
    checks += [partial(load_mapping, path) for path in sorted((config_dir / "sources").glob("*.toml"))]
    return [*_problems([*checks, partial(_check_experiments, config_dir)]), *_strays(config_dir)]


def start_problems(config_dir: Path) -> list[str]:
    """Return what keeps an installation from starting: the settings of models, and experiments.

    A broken mapping stops only its own import, and a file that nothing reads stops nothing: :func:`validate_config`
    tells those too.
    """
    if not config_dir.is_dir():
        return _missing(config_dir)
    models = [partial(load_config, kind, config_dir / "models" / f"{kind}.toml") for kind in MODELS]
    return _problems([*models, partial(_check_experiments, config_dir)])


def _missing(config_dir: Path) -> list[str]:
    return [f"{config_dir}: no such folder; set BESPOKE_CONFIG_DIR or run from the project's folder"]


def _check_model(path: Path) -> None:
    if path.stem.endswith(SUFFIX):
        load_space(path.stem.removesuffix(SUFFIX), path)
    else:
        load_config(path.stem, path)


def _check_experiments(config_dir: Path) -> None:
    path = config_dir / "experiments.toml"
    if not path.exists():
        return
    for experiment in load_experiments(read_text(path)).values():
        for variant in experiment.variants:
            name, at, _ = variant.model.partition("@")
            if at and not (config_dir / "models" / f"{name}.toml").is_file():
                model_of_kind(name)


def _strays(config_dir: Path) -> list[str]:
    here = [path for path in sorted(config_dir.iterdir()) if path.name not in KNOWN]
    inside = [path for room in ("models", "scores", "sources") for path in sorted((config_dir / room).glob("*"))]
    strays = [*here, *(path for path in inside if path.suffix != ".toml")]
    holds = f"{config_dir} holds {', '.join(KNOWN)}, and its folders hold TOML files"
    return [f"{path}: nothing reads this; {holds}" for path in strays if not path.name.startswith(".")]


def _problems(checks: Iterable[Callable[[], object]]) -> list[str]:
    problems = []
    for check in checks:
        try:
            check()
        except BespokeError as error:
            problems.append(str(error))
    return problems
