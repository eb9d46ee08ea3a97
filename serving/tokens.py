"""Read-your-events tokens: where a request's events lie in the event log, so that a later answer can wait for them."""

from collections.abc import Iterable, Mapping

from serving.errors import RequestError
from storage.eventlog.base import Position

MAX_TOKEN_CHARS = 2_000


def to_token(positions: Iterable[Position]) -> str:
    """Return the newest position in each partition, as text.

    >>> to_token([Position(3, 1206), Position(0, 88), Position(3, 1207)])
    '0.88-3.1207'
    """
    newest: dict[int, int] = {}
    for position in positions:
        newest[position.partition] = max(position.offset, newest.get(position.partition, -1))
    return "-".join(f"{partition}.{offset}" for partition, offset in sorted(newest.items()))


def from_token(token: str) -> dict[int, int]:
    """Return partition -> offset of what :func:`to_token` wrote.

    Raises:
        RequestError: it is not such a token.

    >>> from_token("0.88-3.1207")
    {0: 88, 3: 1207}
    """
    try:
        pairs = [pair.split(".") for pair in token[:MAX_TOKEN_CHARS].split("-")]
        return {_natural(partition): _natural(offset) for partition, offset in pairs}
    except ValueError:
        message = f"after: got {token[:40]!r}, expected the token that /collect returned, such as '3.1207'"
        raise RequestError(422, "invalid_token", message) from None


def reached(token: Mapping[int, int], positions: Mapping[int, int]) -> bool:
    """Return whether a reader whose next offsets are ``positions`` has read everything that ``token`` names."""
    return all(positions.get(partition, 0) > offset for partition, offset in token.items())


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)
