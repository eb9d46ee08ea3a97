"""A score on disk: a model bundle of kind ``propensity``, checked like every other before use.

trees.txt            the trees in LightGBM's own text form, which names the signals that they read
model.safetensors    the calibration
reference.parquet    features at training time, to compare later ones with (optional)
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bespoke.errors import BundleError
from bespoke.models.bundle import (
    ARRAYS,
    REFERENCE,
    Manifest,
    Origin,
    checked_manifest,
    reading,
    require_empty,
    seal,
)
from bespoke.models.tensors import map_arrays, write_arrays
from bespoke.propensity.calibration import ARRAY, Calibration
from bespoke.propensity.config import PropensityConfig
from bespoke.propensity.model import Propensity
from bespoke.propensity.signals import SIGNAL_NAMES

TREES = "trees.txt"
LIBRARIES = ("numpy", "scipy", "lightgbm", "safetensors", "pyarrow")


@dataclass(frozen=True, slots=True)
class Score:
    """A score that was read and checked."""

    folder: Path
    manifest: Manifest
    model: Propensity


def write_score(
    folder: Path, model: Propensity, *, reference: pa.Table | None = None, **origin: Unpack[Origin]
) -> Manifest:
    """Write ``model`` into ``folder``, which exists and is empty; the manifest comes last.

    Raises:
        BundleError: the folder is not empty, or a number is not finite.
    """
    require_empty(folder)
    (folder / TREES).write_text(model.trees, encoding="utf-8")
    write_arrays(folder / ARRAYS, {ARRAY: model.calibration.array()})
    if reference is not None:
        pq.write_table(reference, folder / REFERENCE)
    return seal(folder, kind=model.kind, config=model.config, libraries=LIBRARIES, **origin)


def read_score(folder: Path) -> Score:
    """Read a score.

    Raises:
        BundleError: a file is missing, altered, unknown or unreadable, its content does not fit, it reads signals that
            this version does not derive, or it is no score.
    """
    with reading(folder):
        manifest = checked_manifest(folder, kinds=(Propensity.kind,), required=frozenset({ARRAYS, TREES}))
        arrays = map_arrays(folder / ARRAYS)
        if set(arrays) != {ARRAY}:
            raise BundleError(f"a score has the array {ARRAY!r}, got {sorted(arrays)}")
        config = PropensityConfig.model_validate(manifest.config)
        trees = (folder / TREES).read_text(encoding="utf-8")
        model = Propensity(config, trees, Calibration.from_array(arrays[ARRAY]))
        _require_answer(model)
        return Score(folder, manifest, model)


def _require_answer(model: Propensity) -> None:
    """Ask for a stranger and for nobody in particular: what cannot answer them must not serve."""
    asked = np.array([[np.nan], [0.0]]) * np.ones(len(SIGNAL_NAMES))
    if not np.isfinite(model.score(asked)).all():
        raise BundleError("its scores are no finite numbers; train it again")
