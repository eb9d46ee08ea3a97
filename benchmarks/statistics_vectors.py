"""Our figures beside those that gbstats gave for the same data, frozen by ``benchmarks/gbstats_vectors.py``."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bespoke.statistics.arm import Arm, adjusted, checked, ratio_contributions
from bespoke.statistics.bayesian import Prior, belief
from bespoke.statistics.difference import difference
from bespoke.statistics.sample_ratio import sample_ratio
from bespoke.statistics.sequence import TUNED_SHARE, sequence

VECTORS = Path(__file__).parent / "gbstats_vectors.json"


def largest_error() -> float:
    """Return the largest distance between our figures and theirs, relative where figures are above 1."""
    return max(abs(ours - theirs) / max(abs(theirs), 1.0) for _, ours, theirs in pairs())


def pairs() -> Iterator[tuple[str, float, float]]:
    """Yield what is compared, our figure and theirs."""
    vectors = json.loads(VECTORS.read_bytes())
    for number, case in enumerate(vectors["cases"]):
        ours = figures(case, tuned=vectors["tuned"])
        for name, values in ours.items():
            for place, (one, other) in enumerate(zip(values, case[name], strict=True)):
                yield f"{case['kind']} {number} {name} {place}", one, other
    for case in vectors["sample_ratios"]:
        yield "sample ratio", sample_ratio(case["counts"], case["shares"]).p_value, case["p_value"]


def figures(case: Mapping[str, Any], *, tuned: int) -> Mapping[str, list[float]]:
    """Return our figures of a case, in the order of theirs."""
    control, treatment = arms(case["kind"], case["arms"])
    found = difference(control, treatment, relative=case["relative"], by_skew=False)
    looked = sequence(found, units=control.units + treatment.units, planned=int(tuned / TUNED_SHARE))
    flat, prior = belief(found), belief(found, prior=Prior(sd=0.2, mean=0.05))
    return {
        "fixed": [found.estimate, found.low, found.high, found.p_value],
        "sequential": [looked.low, looked.high, looked.p_value],
        "flat": [flat.mean, flat.low, flat.high, flat.better, flat.loss_control, flat.loss],
        "prior": [prior.mean, prior.low, prior.high, prior.better, prior.loss_control, prior.loss],
    }


def arms(kind: str, given: Any) -> tuple[Arm, Arm]:
    """Return the two arms of a case."""
    if kind == "share":
        control, treatment = (Arm.of_share(int(sum(values)), len(values)) for values, _ in given)
    elif kind == "ratio":
        control, treatment = (Arm.of(ratio_contributions(values, others)) for values, others in given)
    elif kind == "adjusted":
        parts = adjusted([values for values, _ in given], [before for _, before in given])
        bases = [float(checked(values).mean()) for values, _ in given]
        control, treatment = (Arm.of(part, base=base) for part, base in zip(parts, bases, strict=True))
    else:
        control, treatment = (Arm.of(values) for values, _ in given)
    return control, treatment
