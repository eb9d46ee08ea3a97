"""What an evaluation says of itself: one JSON object, every number in it finite."""

import math
import resource
import sys
from collections.abc import Mapping
from typing import Any

from training.offline.evaluate import AUTO, BASELINES, Evaluation, Run
from training.offline.measure import by_cohort, differences, intervals
from training.offline.search import Trial


def report(evaluation: Evaluation) -> dict[str, Any]:
    """Return the whole report; one model stands at the top level, several under ``models``."""
    with evaluation.budget.stage("report"):
        kinds = [
            evaluation.auto.kind if kind == AUTO and evaluation.auto else kind for kind in evaluation.request.kinds
        ]
        models = {kind: _of_model(kind, evaluation) for kind in dict.fromkeys(kinds)}
        shared = _shared(evaluation)
    shared["seconds"] = {"total": evaluation.budget.spent_s, **evaluation.budget.stages}
    shared["peak_memory_mb"] = peak_memory_mb()
    whole = {**next(iter(models.values())), **shared} if len(models) == 1 else {"models": models, **shared}
    finite: dict[str, Any] = _finite(whole)
    return finite


def peak_memory_mb() -> float:
    """Return the most memory that this process has held, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _of_model(kind: str, evaluation: Evaluation) -> dict[str, Any]:
    run, against = evaluation.runs[kind], evaluation.baseline
    return {
        "model": kind,
        "metrics": run.measured.means,
        "intervals": intervals(run.measured.values, seed=evaluation.request.seed),
        "cohorts": by_cohort(run.measured, evaluation.task),
        "difference": {
            "against": against,
            "metrics": differences(run.measured, evaluation.runs[against].measured),
        },
        "config": run.config,
        "search": _search(run, evaluation),
        "cut_short": run.cut_short,
        "stages": dict(run.stages),
    }


def _shared(evaluation: Evaluation) -> dict[str, Any]:
    shared: dict[str, Any] = {
        "users": len(evaluation.task.user_rows),
        "k": list(evaluation.task.ks),
        "repeats": "allow" if evaluation.task.rules.repeats else "mask",
        "repeat_share": evaluation.repeat_share,
        "split": str(evaluation.shape),
        "seed": evaluation.request.seed,
        "baselines": {kind: _baseline(evaluation.runs[kind]) for kind in BASELINES},
        "data": _data(evaluation),
    }
    if evaluation.auto is not None:
        chosen = evaluation.auto
        shared["auto"] = {"model": chosen.kind, "scores": dict(chosen.scores), "reasons": dict(chosen.reasons)}
    return shared


def _baseline(run: Run) -> dict[str, Any]:
    return {"metrics": run.measured.means, "config": run.config}


def _search(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    inner, chosen = evaluation.validation, run.chosen
    return {
        "settings_from": chosen.how,
        "metric": f"ndcg@{max(evaluation.task.ks)}",
        "split": None if inner is None else str(inner.shape),
        "users": evaluation.validated,
        "score": chosen.score,
        "weights": None if chosen.learned is None else chosen.learned.weights_GS.tolist(),
        "trials": [_trial(trial) for trial in chosen.trials],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "settings": dict(trial.settings),
        "score": trial.score,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
    }


def _data(evaluation: Evaluation) -> dict[str, Any]:
    world, task = evaluation.world, evaluation.task
    train = task.train
    files = {
        name: {
            "path": source.path,
            "rows": source.rows,
            "dropped": dict(source.dropped),
            "unknown_event_types": dict(source.unknown_event_types),
        }
        for name, source in world.sources.items()
    }
    return {
        "train_lines": len(train),
        "train_users": len(train.user_rows),
        "train_items": int((train.lines_I > 0).sum()),
        "relevant": len(task.relevant),
        "relevant_unknown_to_train": int((train.lines_I[task.relevant % len(train.ids.items)] == 0).sum()),
        "timestamps": train.timed,
        "span_days": train.span_days,
        "catalog_items": len(world.catalog),
        "files": files,
    }


def _finite(value: Any) -> Any:
    """Return the same with None for numbers that JSON cannot carry."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
