"""The arrays of models, by what they hold."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bespoke.vocabulary import RowArray as RowArray

FloatArray = npt.NDArray[np.float32]
TimeArray = npt.NDArray[np.int64]
"""Milliseconds since 1970."""
AnyArray = npt.NDArray[Any]
