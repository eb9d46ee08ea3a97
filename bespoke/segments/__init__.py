"""Segments: groups of people that conditions over profiles define; a closed grammar, nothing in it runs as code."""

from bespoke.segments.checks import SCORE_LOOK_MS
from bespoke.segments.segments import Evaluation, Explained, Segment, Segments, read_segments

__all__ = ["SCORE_LOOK_MS", "Evaluation", "Explained", "Segment", "Segments", "read_segments"]
