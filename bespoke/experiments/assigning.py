"""Assignment by hash alone, at the declared shares: what a unit gets that nothing is stored of."""

from bespoke.experiments.declaration import Experiment, Variant
from bespoke.experiments.hashing import point


def assign(experiment: Experiment, unit_id: str) -> Variant:
    """Return the variant of a unit: always the same one while salt and shares stand.

    Variants own consecutive intervals of [0, 1), as long as their shares.
    """
    at, end = point(experiment.salt, unit_id), 0.0
    shares = experiment.shares
    for name, share in shares.items():
        end += share
        if at < end:
            return experiment.by_name[name]
    # Rounding may leave the shares a hair short of 1.
    return experiment.by_name[next(name for name, share in reversed(shares.items()) if share > 0)]
