"""Checks everything in config/, file by file and against one another, without starting anything."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from bespoke.catalog import EMPTY_CATALOG
from bespoke.errors import BespokeError, ConfigError
from bespoke.experiments import load_declared
from bespoke.models.registry import MODELS, model_of_kind
from bespoke.recommend import load_pipelines
from bespoke.rules import Rule, conflicts, load_rules, notices, unknown_segments
from ingestion.enrich import load_enrichment, load_near_duplicates
from ingestion.mapping import load_mapping
from ingestion.subscribers import load_subscribers
from monitoring import alert_rules
from runtime import schedule
from storage import metrics_file
from storage.segments_file import load_segments
from storage.toml import read_text
from storage.tracking import load_plan
from training.configs import load_config
from training.propensity import load_score, score_paths
from training.search_space import SUFFIX, load_space

RULES = "rules.toml"
PIPELINES = "pipelines.toml"
KNOWN = (
    "enrichment.toml",
    "experiments.toml",
    metrics_file.FILE,
    alert_rules.FILE,
    schedule.FILE,
    PIPELINES,
    RULES,
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
    return [*_problems(checks), *_rule_conflicts(config_dir), *_strays(config_dir)]


def config_notices(config_dir: Path, *, at: datetime) -> list[str]:
    """Return what is no problem but worth a look, such as rules that have ended by ``at``."""
    return [f"{config_dir / RULES}: {notice}" for notice in notices(_rules_or_none(config_dir), at=at)]


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
    checks = (
        _check_experiments,
        load_plan,
        _check_enrichment,
        load_segments,
        _check_subscribers,
        _check_rules,
        _check_pipelines,
        metrics_file.declared_metrics,
        alert_rules.load_alerts,
        schedule.load_schedule,
    )
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
    declared = load_declared(read_text(path))
    names = [variant.model for experiment in declared.experiments.values() for variant in experiment.variants]
    for model in (*names, *(() if declared.holdout is None else (declared.holdout.model,))):
        name, at, _ = model.partition("@")
        if at and not (config_dir / "models" / f"{name}.toml").is_file():
            model_of_kind(name)
    audiences = {name: one.audience for name, one in declared.experiments.items() if one.audience is not None}
    segments = load_segments(config_dir).names if audiences else ()
    for name, audience in audiences.items():
        if audience not in segments:
            known = ", ".join(segments) or "none"
            raise ConfigError(f"{path}: {name}: no segment {audience!r}; there are: {known}")


def _check_pipelines(config_dir: Path) -> None:
    """Refuse pipelines that cannot be read, and experiments that name others than there are."""
    path, experiments = config_dir / PIPELINES, config_dir / "experiments.toml"
    pipelines = load_pipelines(read_text(path) if path.exists() else "")
    declared = load_declared(read_text(experiments) if experiments.exists() else "")
    named = {v.pipeline: name for name, one in declared.experiments.items() for v in one.variants}
    held = {} if declared.holdout is None else {declared.holdout.pipeline: "holdout"}
    for pipeline, name in sorted((named | held).items()):
        if pipeline not in pipelines:
            raise ConfigError(f"{experiments}: {name}: no pipeline {pipeline!r}; there are: {', '.join(pipelines)}")


def _check_rules(config_dir: Path) -> None:
    """Refuse rules that cannot be read, and segments that do not exist."""
    rules = _rules(config_dir)
    if any(rule.when.segments | rule.when.not_segments for rule in rules):
        unknown = unknown_segments(rules, load_segments(config_dir).names)
        if unknown:
            raise ConfigError(f"{config_dir / RULES}: {unknown[0]}")


def _rule_conflicts(config_dir: Path) -> list[str]:
    return [f"{config_dir / RULES}: {conflict}" for conflict in conflicts(_rules_or_none(config_dir))]


def _rules(config_dir: Path) -> tuple[Rule, ...]:
    path = config_dir / RULES
    return load_rules(read_text(path), where=str(path)) if path.exists() else ()


def _rules_or_none(config_dir: Path) -> tuple[Rule, ...]:
    try:
        return _rules(config_dir)
    except ConfigError:
        # Told as a problem of its own.
        return ()


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
    # A file that several checks read is told once.
    return list(dict.fromkeys(problems))
