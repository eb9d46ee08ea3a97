"""Whether units arrive in the shares that were set: where they do not, no other figure can be trusted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bespoke.statistics.arm import Values

ALPHA = 0.0009
"""Chance of a false alarm over an experiment's whole life, however often one looks."""
EARLY_ALPHA = 0.0001
"""The part of it spent on what stands out long before the planned end, or comes after it."""
PRIOR_UNITS = (20.0, 1_000.0)
"""How far shares may be off, for the early part: as far as those of so few or so many units, half of the time each."""
PLANNED = 50_000
"""Units at the end, where nobody planned."""


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """How counts fit shares."""

    counts: tuple[int, ...]
    expected: tuple[float, ...]
    p_value: float
    """Pearson's test, as if this were the only look."""
    mismatch: bool
    """They do not fit, whenever and however often one looks."""
    words: str = ""
    """Why, where they do not."""


def sample_ratio(counts: Sequence[int], shares: Sequence[float], *, planned: int = PLANNED) -> SampleRatio:
    """Hold counts of units against the shares of their arms.

    Two tests that stand any number of looks, side by side. One spends its chance of a false alarm as the planned end
    comes near, where most of what is wrong is seen: the distance from the shares, grown with the number of units, is
    held against a constant that a Brownian motion crosses before its end with that chance at most (Levy's inequality;
    the bounds of O'Brien and Fleming 1979). The other finds at any time what is grossly wrong: the multinomial
    mixture of Lindon and Malek 2022, "Anytime-Valid Inference For Multinomial Count Data".

    An arm of share 0 takes no part in the tests; a unit in it is a mismatch by itself.

    Args:
        counts: units by arm.
        shares: by arm, in any scale; at least one above 0.
        planned: units of all arms at the planned end.

    Raises:
        ValueError: lengths differ, or a count or share cannot be.

    >>> sample_ratio([600, 400], [0.5, 0.5]).mismatch, sample_ratio([510, 490], [1, 1]).mismatch
    (True, False)
    """
    if len(counts) != len(shares) or any(n < 0 for n in counts) or any(s < 0 for s in shares) or not sum(shares) > 0:
        raise ValueError(f"got counts {list(counts)} for shares {list(shares)}, expected one count per share")
    open_arms = [n for n, share in enumerate(shares) if share > 0]
    count_A = np.array([counts[n] for n in open_arms], dtype=np.float64)
    share_A = np.array([shares[n] for n in open_arms], dtype=np.float64) / sum(shares)
    total, stray = float(count_A.sum()), sum(counts) - int(count_A.sum())
    expected = tuple(total * share / sum(shares) for share in shares)
    if stray:
        words = f"{stray} units are in an arm that nobody should get"
        return SampleRatio(tuple(counts), expected, 0.0, True, words)
    mismatch, words = bool(mismatches(count_A[None, :], share_A, planned=planned)[0]), ""
    if mismatch:
        found, wanted = (", ".join(f"{100 * x:.2f}%" for x in part) for part in (count_A / total, share_A))
        words = f"units arrive as {found} where {wanted} was set"
    p_value = float(stats.chi2.sf(_distance(count_A[None, :], share_A)[0], max(len(open_arms) - 1, 1)))
    return SampleRatio(tuple(counts), expected, p_value, mismatch, words)


def mismatches(count_LA: Values, share_A: Values, *, planned: int = PLANNED) -> npt.NDArray[np.bool_]:
    """Return for each of L looks whether its counts do not fit; shares are above 0 and sum to 1."""
    total_L = count_LA.sum(axis=1)
    limit = float(stats.chi2.isf((ALPHA - EARLY_ALPHA) / 2, max(len(share_A) - 1, 1)))
    late_L = (total_L <= planned) & (_distance(count_LA, share_A) * total_L / planned >= limit)
    found: npt.NDArray[np.bool_] = late_L | (_log_evidence(count_LA, share_A) >= -math.log(EARLY_ALPHA))
    return found


def _distance(count_LA: Values, share_A: Values) -> Values:
    """Return Pearson's statistic of each look; 0 where nobody came."""
    expected_LA = count_LA.sum(axis=1, keepdims=True) * share_A
    distance: Values = ((count_LA - expected_LA) ** 2 / np.maximum(expected_LA, 1e-300)).sum(axis=1)
    return distance


def _log_evidence(count_LA: Values, share_A: Values) -> Values:
    """Return the log of the Bayes factor of shares drawn around those set (Dirichlet) against those set."""
    against_L = (count_LA * np.log(share_A)).sum(axis=1)
    drawn = [_log_drawn(count_LA, units * share_A) - against_L for units in PRIOR_UNITS]
    evidence: Values = special.logsumexp(drawn, axis=0) - math.log(len(drawn))
    return evidence


def _log_drawn(count_LA: Values, prior_A: Values) -> Values:
    one_L = special.gammaln(prior_A.sum()) - special.gammaln(prior_A.sum() + count_LA.sum(axis=1))
    drawn: Values = one_L + (special.gammaln(prior_A + count_LA) - special.gammaln(prior_A)).sum(axis=1)
    return drawn
