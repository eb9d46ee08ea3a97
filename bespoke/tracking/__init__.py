"""The tracking plan: which events and properties are expected, and what becomes of an event that breaks it.

Source: https://segment.com/docs/protocols/tracking-plan/create/ (what a plan holds).
"""

from bespoke.tracking.document import Action, Rule, ValueType
from bespoke.tracking.plan import (
    FLAGS_KEY,
    Blocked,
    TrackingPlan,
    Violation,
    encode_judged,
    judged,
    read_plan,
    reason_key,
)

__all__ = [
    "FLAGS_KEY",
    "Action",
    "Blocked",
    "Rule",
    "TrackingPlan",
    "ValueType",
    "Violation",
    "encode_judged",
    "judged",
    "read_plan",
    "reason_key",
]
