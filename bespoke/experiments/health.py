"""How a version does at answering: requests, errors, missed deadlines and a histogram of latency."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

EDGES_MS: tuple[float, ...] = tuple(round(0.5 * 1.2**n, 3) for n in range(52))
"""Upper edges of the latency buckets, 0.5 ms to 5.5 s, a fifth apart; one more bucket takes the rest."""
BUCKETS = len(EDGES_MS) + 1


def bucket_of(ms: float) -> int:
    """Return the number of the bucket of a latency.

    >>> bucket_of(0.1), bucket_of(1e9) == BUCKETS - 1
    (0, True)
    """
    return bisect_left(EDGES_MS, ms)


@dataclass(frozen=True, slots=True)
class Health:
    """Counts over some time."""

    count: int = 0
    errors: int = 0
    """Requests in which the version failed, and something else answered."""
    missed: int = 0
    """Requests in which a stage missed its deadline."""
    latency: tuple[int, ...] = (0,) * BUCKETS
    """Requests by bucket of the time that the decision took."""

    def above(self, ms: float) -> int:
        """Return how many requests took longer than ``ms``, which must be an edge."""
        return sum(self.latency[bucket_of(ms) + 1 :])

    def quantile_ms(self, q: float) -> float:
        """Return the upper edge of the bucket that holds the quantile; 0 without requests.

        >>> Health(4, latency=(3, 1, *[0] * (BUCKETS - 2))).quantile_ms(0.99)
        0.6
        """
        wanted, seen = q * sum(self.latency), 0
        for edge, n in zip(EDGES_MS, self.latency, strict=False):
            seen += n
            if seen >= wanted:
                return edge if seen else 0.0
        return EDGES_MS[-1]


def total(parts: Iterable[Health]) -> Health:
    """Return the sum of several counts."""
    parts = tuple(parts)
    return Health(
        sum(part.count for part in parts),
        sum(part.errors for part in parts),
        sum(part.missed for part in parts),
        tuple(map(sum, zip((0,) * BUCKETS, *(part.latency for part in parts), strict=True))),
    )
