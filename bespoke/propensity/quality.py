"""Quality of scores: do they rank, do they mean what they say, and do they beat the best single signal?

Shapes: N examples, S signals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

ScoreArray = npt.NDArray[np.float64]
LabelArray = npt.NDArray[np.bool_]

BINS = 15
SINGLE_AUC = "single_auc:"
"""Before the strongest single signal's name, among a bundle's metrics."""


@dataclass(frozen=True, slots=True)
class Single:
    """One signal as a score of its own."""

    name: str
    auc: float


def auc(score_N: ScoreArray, label_N: LabelArray) -> float:
    """Return how often one that happened scores above one that did not; ties count half. NaN with one class only.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    positive, negative = int(label_N.sum()), int((~label_N).sum())
    if not positive or not negative:
        return float("nan")
    above = rankdata(score_N)[label_N].sum() - positive * (positive + 1) / 2
    return float(above / (positive * negative))


def average_precision(score_N: ScoreArray, label_N: LabelArray) -> float:
    """Return the mean, over those that happened, of the share that happened among all that score at least as high.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    order_N = np.argsort(-score_N, kind="stable")
    sorted_N, hits_N = score_N[order_N], np.cumsum(label_N[order_N])
    # Equal scores cannot be told apart: each counts as the last of them.
    last_N = np.searchsorted(-sorted_N, -sorted_N, side="right") - 1
    precision_N = hits_N[last_N] / (last_N + 1)
    return float(precision_N[label_N[order_N]].mean()) if label_N.any() else float("nan")


def log_loss(score_N: ScoreArray, label_N: LabelArray) -> float:
    """Return the mean surprise at what happened, in nats."""
    said_N = np.clip(np.where(label_N, score_N, 1 - score_N), 1e-15, 1.0)
    return float(-np.log(said_N).mean())


def calibration_error(score_N: ScoreArray, label_N: LabelArray, *, bins: int = BINS) -> float:
    """Return the mean distance of score and rate over bins of equally many examples, in the order of score.

    Source: Nixon et al., Measuring Calibration in Deep Learning, 2019 (adaptive calibration error).

    >>> calibration_error(np.array([0.25, 0.25, 0.25, 0.25]), np.array([True, False, False, False]), bins=1)
    0.0
    """
    parts = [part for part in np.array_split(np.argsort(score_N, kind="stable"), bins) if len(part)]
    gaps = [len(part) * abs(score_N[part].mean() - label_N[part].mean()) for part in parts]
    return float(sum(gaps) / len(score_N))


def strongest(signal_NS: ScoreArray, label_N: LabelArray, *, names: Sequence[str]) -> Single:
    """Return the signal that ranks best by itself, high or low values first; who has none of it comes last."""
    singles = [Single(name, single_auc(signal_NS[:, column], label_N)) for column, name in enumerate(names)]
    return max(singles, key=lambda one: one.auc)


def single_auc(value_N: ScoreArray, label_N: LabelArray) -> float:
    """Return the better of the two directions in which one signal can rank."""
    return max(auc(np.nan_to_num(sign * value_N, nan=-np.inf), label_N) for sign in (1.0, -1.0))


def measures(score_N: ScoreArray, label_N: LabelArray, single: Single) -> dict[str, float]:
    """Return the metrics of a bundle; the strongest single signal, measured on the same examples, is one of them."""
    reached = auc(score_N, label_N)
    return {
        "auc": reached,
        "auc_gain": reached - single.auc,
        f"{SINGLE_AUC}{single.name}": single.auc,
        "average_precision": average_precision(score_N, label_N),
        "log_loss": log_loss(score_N, label_N),
        "ece": calibration_error(score_N, label_N),
        "base_rate": float(label_N.mean()),
        "examples": float(len(label_N)),
    }


def strongest_of(metrics: Mapping[str, float]) -> Single | None:
    """Return the single signal that :func:`measures` noted, or None."""
    noted = (Single(name.removeprefix(SINGLE_AUC), value) for name, value in metrics.items() if SINGLE_AUC in name)
    return next(noted, None)
