"""Experiments: who gets which variant, by salted hash, kept where it was first shown; layers, holdout, ramps, shadows.

``config/experiments.toml`` declares (:func:`load_declared`); the control store holds what is in force, as
:class:`ExperimentState` (:func:`parse_states`); :class:`Traffic` places each request.
"""

from bespoke.experiments.assigning import assign
from bespoke.experiments.canary import GuardSettings, Worse, worse
from bespoke.experiments.declaration import (
    CHAMPION,
    DEFAULT,
    HOLDOUT,
    Experiment,
    Holdout,
    Isolation,
    RampStep,
    Start,
    Unit,
    Variant,
    changed_shares,
)
from bespoke.experiments.files import FILE, Declared, load_declared, load_experiments, parse_experiment
from bespoke.experiments.hashing import point
from bespoke.experiments.health import BUCKETS, EDGES_MS, Health, bucket_of, total
from bespoke.experiments.layers import check_compatible, check_layers, check_room, free_offset
from bespoke.experiments.placement import PLAIN, Assignment, Kept, Placement, StoredAssignments
from bespoke.experiments.state import ExperimentState, InForce, Phase, parse_state, parse_states
from bespoke.experiments.traffic import NO_OVERRIDES, NOTHING_STORED, Ids, Traffic, unit_ids

__all__ = [
    "BUCKETS",
    "CHAMPION",
    "DEFAULT",
    "EDGES_MS",
    "FILE",
    "HOLDOUT",
    "NOTHING_STORED",
    "NO_OVERRIDES",
    "PLAIN",
    "Assignment",
    "Declared",
    "Experiment",
    "ExperimentState",
    "GuardSettings",
    "Health",
    "Holdout",
    "Ids",
    "InForce",
    "Isolation",
    "Kept",
    "Phase",
    "Placement",
    "RampStep",
    "Start",
    "StoredAssignments",
    "Traffic",
    "Unit",
    "Variant",
    "Worse",
    "assign",
    "bucket_of",
    "changed_shares",
    "check_compatible",
    "check_layers",
    "check_room",
    "free_offset",
    "load_declared",
    "load_experiments",
    "parse_experiment",
    "parse_state",
    "parse_states",
    "point",
    "total",
    "unit_ids",
    "worse",
]
