"""Calibration: from what trees say to how often it happens.

Two numbers, fitted on examples that the trees have not seen: few enough not to overfit, and always rising, so that they
change no ranking. Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from bespoke.errors import BundleError
from bespoke.propensity.quality import LabelArray, ScoreArray

ARRAY = "calibration"
MIN_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """A rising line on the scale of log-odds."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, logit_N: ScoreArray, label_N: LabelArray) -> "Calibration":
        """Return the line of the least log loss.

        Labels are drawn a little towards the middle, as in the source, so that a perfect ranking stays finite.
        """
        positive, negative = label_N.sum(), (~label_N).sum()
        wanted_N = np.where(label_N, (positive + 1) / (positive + 2), 1 / (negative + 2))

        def loss(line: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
            said_N = line[0] * logit_N + line[1]
            surprise = float(np.mean(np.logaddexp(0.0, said_N) - wanted_N * said_N))
            off_N = expit(said_N) - wanted_N
            return surprise, np.array([np.mean(off_N * logit_N), np.mean(off_N)])

        found = minimize(
            loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(MIN_SLOPE, None), (None, None)]
        )
        # Kept as the bundle keeps them, so that a score is the same before and after.
        return cls(float(np.float32(found.x[0])), float(np.float32(found.x[1])))

    def __call__(self, logit_N: ScoreArray) -> ScoreArray:
        """Return probabilities [N] for log-odds [N]."""
        return np.asarray(expit(self.slope * logit_N + self.intercept), dtype=np.float64)

    def array(self) -> npt.NDArray[np.float32]:
        """Return it as [2]: slope and intercept."""
        return np.array([self.slope, self.intercept], dtype=np.float32)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.float32]) -> "Calibration":
        """Read what :meth:`array` gave.

        Raises:
            BundleError: it is no rising line.
        """
        if array.shape != (2,) or not array[0] > 0:
            raise BundleError(f"array {ARRAY!r}: got {array.tolist()}, expected a slope above 0 and an intercept")
        return cls(float(array[0]), float(array[1]))
