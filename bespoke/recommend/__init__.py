"""Recommendations: one request as stages over frozen sources. Pure: no clock but the timer, no store, no framework."""

from bespoke.recommend.engine import Engine
from bespoke.recommend.request import (
    FEATURES_STALE,
    FEATURES_UNAVAILABLE,
    MODEL_FAILED,
    NO_MODEL,
    Decision,
    Filter,
    Promotion,
    Question,
    Recommended,
    Request,
    RuleCount,
)
from bespoke.recommend.settings import DEFAULT, Pipeline, load_pipelines
from bespoke.recommend.sources import Shelf, Sources, table_of
from bespoke.recommend.trace import Trace

__all__ = [
    "DEFAULT",
    "FEATURES_STALE",
    "FEATURES_UNAVAILABLE",
    "MODEL_FAILED",
    "NO_MODEL",
    "Decision",
    "Engine",
    "Filter",
    "Pipeline",
    "Promotion",
    "Question",
    "Recommended",
    "Request",
    "RuleCount",
    "Shelf",
    "Sources",
    "Trace",
    "load_pipelines",
    "table_of",
]
