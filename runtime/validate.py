"""Checks everything in config/, file by file and against one another, without starting anything."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from bespoke.catalog import EMPTY_CATALOG
from bespoke.errors import BespokeError, ConfigError
from bespoke.experiments import load_experiments
from bespoke.models.registry import MODELS, model_of_kind
from ingestion.enrich import load_enrichment, load_near_duplicates
from ingestion.mapping import load_mapping
from ingestion.subscribers import load_subscribers
from storage.segments_file import load_segments
from storage.toml import read_text
from storage.tracking import load_plan
from training.configs import load_config
from training.propensity import load_score, score_paths
from training.search_space import SUFFIX, load_space

KNOWN = (
    "enrichment.toml",
    "experiments.toml",
    "segments.toml",
    "subscribers.toml",
    "tracking.toml",
    "models",
    "scores",
    "sources",
    "reference",
)


def validate_config(config_dir: Path) -> list[str]:
    """Return every problem found, each naming the file, the value and what is allowed; empty where all is well."""
    if not config_dir.is_dir():
        return _missing(config_dir)
    checks: list[Callable[[], object]] = [
        partial(_check_model, path) for path in sorted((config_dir / "models").glob("*.toml"))
    ]
    checks += [partial(load_score, path) for path in score_paths(config_dir)]
    checks += [partial(load_mapping, path) for path in sorted((config_dir / "sources").glob("*.toml"))]
    checks += _shared_checks(config_dir)
    return [*_problems(checks), *_strays(config_dir)]


def start_problems(config_dir: Path) -> list[str]:
    """Return what keeps an installation from starting: all files of config/ itself, and the settings of models.

    A broken mapping stops only its own import, and a file that nothing reads stops nothing: :func:`validate_config`
    tells those too.
    """
    if not config_dir.is_dir():
        return _missing(config_dir)
    models = [partial(load_config, kind, config_dir / "models" / f"{kind}.toml") for kind in MODELS]
    return _problems([*models, *_shared_checks(config_dir)])


def _shared_checks(config_dir: Path) -> list[Callable[[], object]]:
    checks = (_check_experiments, load_plan, _check_enrichment, load_segments, _check_subscribers)
    return [partial(check, config_dir) for check in checks]


def _missing(config_dir: Path) -> list[str]:
    return [f"{config_dir}: no such folder; set BESPOKE_CONFIG_DIR or run from the project's folder"]


def _check_model(path: Path) -> None:
    if path.stem.endswith(SUFFIX):
        load_space(path.stem.removesuffix(SUFFIX), path)
    else:
        load_config(path.stem, path)


def _check_subscribers(config_dir: Path) -> None:
    names = load_segments(config_dir).names
    for name, subscriber in load_subscribers(config_dir).items():
        for segment in subscriber.segments or ():
            if segment not in names:
                known = ", ".join(names) or "none"
                raise ConfigError(f"{config_dir}/subscribers.toml: {name}: no segment {segment!r}; there are: {known}")


def _check_experiments(config_dir: Path) -> None:
    path = config_dir / "experiments.toml"
    if not path.exists():
        return
    for experiment in load_experiments(read_text(path)).values():
        for variant in experiment.variants:
            name, at, _ = variant.model.partition("@")
            if at and not (config_dir / "models" / f"{name}.toml").is_file():
                model_of_kind(name)


def _check_enrichment(config_dir: Path) -> None:
    load_near_duplicates(config_dir)
    load_enrichment(config_dir, catalog=lambda: EMPTY_CATALOG)


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
