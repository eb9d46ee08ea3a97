"""Where a unit falls: a point in [0, 1) from a salted hash of its id, the same on every machine and for ever.

The first 53 bits of SHA-256 over ``salt:unit_id`` in UTF-8, big-endian, divided by 2**53.
"""

import hashlib


def point(salt: str, unit_id: str) -> float:
    """Return where a unit falls on [0, 1).

    >>> round(point("hero-1", "household-1"), 6)
    0.071401
    """
    digest = hashlib.sha256(f"{salt}:{unit_id}".encode()).digest()
    # 53 bits fit a float exactly; more would round some points up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / float(1 << 53)
